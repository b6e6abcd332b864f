"""The bundle cache: what it keeps, what it drops, what faults leave behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from grpclib import GRPCError, Status
from sanfran_proto.sanfran import v1 as pb
from sanfran_sidecar.errors import BundleUnavailable
from sanfran_sidecar.folders import FolderInUse, lock_folder, remove_tree
from sanfran_sidecar.spares import KEPT

if TYPE_CHECKING:
    from conftest import Bench

Machine = Callable[..., AbstractAsyncContextManager["Bench"]]


def entries(bench: Bench) -> set[str]:
    names = {entry.name for entry in bench.cache_folder.iterdir()} - {"lock"}
    return {name for name in names if not name.startswith("spare-")}


async def spares(bench: Bench) -> None:
    """Waits until all spare folders are there."""
    while len(list(bench.cache_folder.glob("spare-*/empty"))) < KEPT:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_a_bundle_is_kept_over_a_restart(short_path: Path, new_machine: Machine) -> None:
    async with new_machine(short_path) as bench:
        function = bench.api.function({"function.js": "1", "lib/x.js": "2"})
        lease = await bench.cache.acquire(function.digest, function.bundle_bytes)
        assert (lease.folder / "lib/x.js").read_text() == "2"
        (bench.cache_folder / "partial-0123").mkdir()
        (bench.cache_folder / "partial-0123" / "half").write_text("half")
    async with new_machine(short_path) as bench:
        assert entries(bench) == {lease.folder.name}
        again = await bench.cache.acquire(function.digest, function.bundle_bytes)
        assert again.folder == lease.folder
        assert bench.api.fetches == []


async def test_a_bundle_that_comes_with_the_order_is_not_fetched(bench: Bench) -> None:
    function = bench.api.function()
    stub, _ = await bench.generic()
    order = bench.order("a1", function)
    order.bundle = bench.api.bundles[function.digest]
    assert (await stub.activate(order)).loaded is not None
    assert bench.api.fetches == []
    assert len(entries(bench)) == 1


async def test_given_bundles_are_unpacked_alike_with_and_without_a_spare_folder(
    bench: Bench,
) -> None:
    await spares(bench)
    functions = [bench.api.function(f"// {number}") for number in range(KEPT + 3)]
    sizes = set()
    for function in functions:
        given = bench.api.bundles[function.digest]
        lease = await bench.cache.acquire(function.digest, function.bundle_bytes, given)
        (file,) = lease.folder.iterdir()
        sizes.add(lease.folder.suffix)
        assert (lease.folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o555, 0o444)
        assert file.read_text() == f"// {functions.index(function)}"
        lease.release()
    assert sizes == {".8192"}
    assert len(entries(bench)) == len(functions)
    await spares(bench)


async def test_what_a_killed_process_left_of_spare_folders_is_removed(
    short_path: Path, new_machine: Machine
) -> None:
    left = short_path / "bundles" / "spare-of-old"
    left.mkdir(parents=True)
    (left / "empty").touch()
    async with new_machine(short_path):
        assert not left.exists()


async def test_a_given_bundle_that_cannot_be_named_is_tried_as_any(bench: Bench) -> None:
    await spares(bench)
    for spare in bench.cache_folder.glob("spare-*"):
        remove_tree(spare)  # by someone else
    function = bench.api.function()
    given = bench.api.bundles[function.digest]
    lease = await bench.cache.acquire(function.digest, function.bundle_bytes, given)
    assert (lease.folder / "function.js").is_file()


async def test_another_bundle_than_was_ordered_is_refused_and_the_pod_stays_generic(
    bench: Bench,
) -> None:
    stub, _ = await bench.generic()
    order = bench.order("a1", bench.api.function())
    order.bundle = bench.api.bundles[bench.api.function("// another").digest]
    with pytest.raises(GRPCError) as refused:
        await stub.activate(order)
    assert refused.value.status is Status.UNAVAILABLE
    assert (await stub.get_state(pb.GetStateRequest())).phase is pb.PodPhase.GENERIC
    order.bundle = b""
    assert (await stub.activate(order)).loaded is not None


async def test_after_a_crash_of_the_machine_nothing_is_believed(
    short_path: Path, new_machine: Machine
) -> None:
    async with new_machine(short_path) as bench:
        function = bench.api.function()
        (await bench.cache.acquire(function.digest, 0)).release()
    (short_path / "bundles" / "lock").write_text("another boot\n")
    async with new_machine(short_path) as bench:
        assert entries(bench) == set()


async def test_the_longest_unused_bundle_makes_room_and_one_in_use_never_does(
    short_path: Path, new_machine: Machine
) -> None:
    async with new_machine(short_path, cache_bytes=3 * 8192) as bench:  # a file and its folder each
        functions = [bench.api.function(f"// {n}") for n in range(4)]
        digests = [function.digest for function in functions]
        leases = [await bench.cache.acquire(digest, 0) for digest in digests[:3]]
        leases[1].release()
        leases[1].release()
        leases[2].release()
        (await bench.cache.acquire(digests[1], 0)).release()
        fourth = await bench.cache.acquire(digests[3], 0)
        kept = {digests[0], digests[1], digests[3]}
        assert {name.partition(".")[0] for name in entries(bench) if "." in name} == kept
        second = await bench.cache.acquire(digests[1], 0)
        third = await bench.cache.acquire(digests[2], 0)  # all in use: over the bound for a while
        assert all(lease.folder.is_dir() for lease in (leases[0], second, third, fourth))
        leases[0].release()
        assert not leases[0].folder.exists()
    assert len(entries(bench)) == 3


async def test_a_bundle_that_someone_removed_from_disk_is_fetched_again(
    short_path: Path, new_machine: Machine
) -> None:
    async with new_machine(short_path, cache_bytes=8192) as bench:
        function = bench.api.function()
        for _ in range(2):
            lease = await bench.cache.acquire(function.digest, 0)
            remove_tree(lease.folder)
            lease.release()
        assert len(bench.api.fetches) == 2
        for number in range(2):  # to make room, what is gone is removed
            other = bench.api.function(f"// {number}")
            (await bench.cache.acquire(other.digest, 0)).release()
    assert len(entries(bench)) == 1


async def test_a_folder_has_one_owner(bench: Bench) -> None:
    for folder in (bench.run.path, bench.cache_folder):
        with pytest.raises(FolderInUse, match=rf"a folder {folder} is in use"):
            lock_folder(folder, "a folder")


async def test_a_bundle_that_is_not_what_its_digest_says_is_not_kept(bench: Bench) -> None:
    function = bench.api.function()
    bench.api.bundles[function.digest] = bench.api.bundles[function.digest][:-1] + b"x"
    stub, _ = await bench.generic()
    with pytest.raises(GRPCError, match="another digest") as lost:
        await stub.activate(bench.order("a1", function))
    assert lost.value.status is Status.UNAVAILABLE
    assert entries(bench) == set()
    bench.api.function()  # whole again
    assert (await stub.activate(bench.order("a1", function))).loaded is not None


async def test_more_bytes_than_announced_are_not_read(bench: Bench) -> None:
    function = bench.api.function()
    with pytest.raises(BundleUnavailable, match="more than 100 bytes"):
        await bench.cache.acquire(function.digest, 100)


async def test_an_api_that_is_slow_or_gone_leaves_the_pod_generic(
    short_path: Path, new_machine: Machine
) -> None:
    async with new_machine(short_path, fetch_timeout=0.2) as bench:
        stub, _ = await bench.generic()
        function = bench.api.function()
        bench.api.go_on.clear()
        with pytest.raises(GRPCError) as slow:
            await stub.activate(bench.order("a1", function))
        assert slow.value.status is Status.UNAVAILABLE
        bench.api.go_on.set()
        unheard = bench.api.function("// unheard of")
        bench.api.bundles.clear()
        with pytest.raises(GRPCError, match="NOT_FOUND") as unknown:
            await stub.activate(bench.order("a1", unheard))
        assert unknown.value.status is Status.UNAVAILABLE
        await bench.api_server.__aexit__(None, None, None)
        with pytest.raises(GRPCError) as gone:
            await stub.activate(bench.order("a1", function))
        assert gone.value.status is Status.UNAVAILABLE
        assert (await stub.get_state(pb.GetStateRequest())).phase is pb.PodPhase.GENERIC


async def test_a_bundle_that_leaves_its_folder_is_a_failed_load(bench: Bench) -> None:
    stub, _ = await bench.generic()
    function = bench.api.function({"../function.js": "1"})
    function.entry = "function.js"
    answer = await stub.activate(bench.order("a1", function))
    assert answer.failed is not None
    assert answer.failed.message == "bundle refused: '../function.js': leaves the folder"
    assert entries(bench) == set()


@pytest.fixture
def tiny_disk(short_path: Path) -> Iterator[Path]:
    """A file system with room for 256 KiB."""
    if os.getuid() != 0:
        pytest.skip("only root may mount")
    folder = short_path / "bundles"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=False
    )
    if mounted.returncode:
        pytest.skip("no mounts here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("size", [200_000, 400_000])  # full while unpacking; both in a thread
async def test_a_full_disk_is_told_and_leaves_nothing(
    tiny_disk: Path, short_path: Path, new_machine: Machine, size: int
) -> None:
    (tiny_disk / "ballast").write_bytes(bytes(100_000))
    async with new_machine(short_path) as bench:
        stub, _ = await bench.generic()
        function = bench.api.function({"function.js": "//" + "x" * size})
        with pytest.raises(GRPCError, match="no space left") as full:
            await stub.activate(bench.order("a1", function))
        assert full.value.status is Status.UNAVAILABLE
        assert entries(bench) == {"ballast"}
        assert (await stub.activate(bench.order("a1", bench.api.function()))).loaded is not None


async def test_those_who_wait_for_a_bundle_share_its_failure_and_the_next_tries_again(
    bench: Bench,
) -> None:
    function = bench.api.function()
    bundle = bench.api.bundles.pop(function.digest)
    waiting = [asyncio.create_task(bench.cache.acquire(function.digest, 0)) for _ in range(3)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, BundleUnavailable) for one in results)
    assert len(bench.api.fetches) == 1
    bench.api.bundles[function.digest] = bundle
    assert (await bench.cache.acquire(function.digest, 0)).folder.is_dir()
