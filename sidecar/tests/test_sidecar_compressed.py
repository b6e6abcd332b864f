"""Bundles that come as zstd: unpacked while they are decompressed, bounded, and verified at their end."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import zstandard
from sanfran_sidecar.errors import BundleRefused, BundleUnavailable

if TYPE_CHECKING:
    from conftest import Bench


def packed(bench: Bench, files: dict[str, str | bytes]) -> tuple[str, int, bytes]:
    """Digest, size and zstd of a bundle, which the api has."""
    function = bench.api.function(files)
    content = zstandard.ZstdCompressor().compress(bench.api.bundles[function.digest])
    bench.api.bundles[function.digest] = content
    return function.digest, function.bundle_bytes, content


@pytest.mark.parametrize("size", [10, 300_000])
async def test_a_bundle_comes_compressed_and_is_unpacked(bench: Bench, size: int) -> None:
    text = random.Random(1).randbytes(size).hex()
    digest, length, _ = packed(bench, {"a.js": text, "sub/b.js": "b", "empty.js": ""})
    lease = await bench.cache.acquire(digest, length)
    assert (lease.folder / "a.js").read_text() == text
    assert (lease.folder / "sub/b.js").read_text() == "b"
    assert (lease.folder / "empty.js").read_text() == ""
    lease.release()


async def test_a_given_bundle_may_be_compressed_too(bench: Bench) -> None:
    digest, length, content = packed(bench, {"a.js": "a"})
    lease = await bench.cache.acquire(digest, length, content)
    assert (lease.folder / "a.js").read_text() == "a"
    assert bench.api.fetches == []
    lease.release()


@pytest.mark.parametrize("given", [False, True])
async def test_what_unpacks_to_more_than_was_announced_is_refused(
    bench: Bench, given: bool
) -> None:
    digest, _, content = packed(bench, {"a.js": bytes(600_000)})
    assert len(content) < 1000
    with pytest.raises(BundleUnavailable, match="more than 2048 bytes"):
        await bench.cache.acquire(digest, 2048, content if given else b"")
    assert not list(bench.cache_folder.glob("partial-*"))


@pytest.mark.parametrize("given", [False, True])
async def test_a_damaged_bundle_is_told_from_a_refused_one(bench: Bench, given: bool) -> None:
    digest, length, content = packed(bench, {"a.js": random.Random(2).randbytes(5000).hex()})
    for at in range(0, len(content), 97):
        bad = bytearray(content)
        bad[at] ^= 0xFF
        bench.api.bundles[digest] = bytes(bad)
        with pytest.raises(BundleUnavailable):
            await bench.cache.acquire(digest, length, bytes(bad) if given else b"")
    for end in (0, 3, 4, 100, len(content) - 1):
        bench.api.bundles[digest] = content[:end]
        with pytest.raises(BundleUnavailable):
            await bench.cache.acquire(digest, length, content[:end] if given else b"")
    bench.api.bundles[digest] = content
    (await bench.cache.acquire(digest, length)).release()


async def test_a_window_larger_than_any_level_needs_is_refused(bench: Bench) -> None:
    function = bench.api.function({"a.js": "a" * 100_000})
    tar = bench.api.bundles[function.digest]
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=0)
    compress = zstandard.ZstdCompressor(compression_params=parameters)
    content = b"".join([(one := compress.compressobj()).compress(tar), one.flush()])
    bench.api.bundles[function.digest] = content
    with pytest.raises(BundleUnavailable, match="damaged"):
        await bench.cache.acquire(function.digest, len(tar))


async def test_what_is_refused_for_what_is_in_it_is_refused_compressed_too(bench: Bench) -> None:
    digest, length, _ = packed(bench, {"../a.js": "a"})
    with pytest.raises(BundleRefused, match="leaves the folder"):
        await bench.cache.acquire(digest, length)
