"""Stores that older services wrote."""

import lzma
import shutil
import tarfile
from pathlib import Path

import pytest
from sanfran_api.store import migrations, records
from sanfran_api.store.environment import SchemaMismatch

from api.tests.stores import bundle, content_of, function, has_bundle, opened, same

WRITTEN = Path(__file__).parent / "stores"
"""One `schema-N.tar.xz` of each schema, as the first service that had it wrote it."""


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A folder whose store has the first release's schema: 120 small functions and a large one, six
    versions of the first of which three are kept, and one function that was deleted."""
    (tmp_path / "data").mkdir()
    with lzma.open(WRITTEN / "schema-1.tar.xz") as packed, tarfile.open(fileobj=packed) as tar:
        tar.extractall(tmp_path / "data", filter="data")
    return tmp_path


async def test_a_store_of_the_first_release_goes_on_as_it_was(first: Path) -> None:
    async with opened(first, keep_versions=3) as store:
        names = [one.name for one, _ in store.page("", 1000).functions]
        assert names == [f"f{number:03}" for number in range(120)] + ["large"]
        assert store.get("f007").settings.env == {"N": "7"}
        assert content_of(store, store.get("f007").digest) == b"code 7"
        assert content_of(store, store.get("large").digest) == b"large " * 500_000
        assert [one.version for one in store.versions("f000")] == [6, 5, 4]
        assert store.revision == 1795783688447777
        history = store.history(1795783688447770, 1000)
        assert history is not None
        # Only of what is there still.
        shown = [(event.deleted, event.put and event.put.version) for event in history.events]
        assert shown == [(None, 4), (None, 5), (None, 6), (None, 1), ("gone", None), (None, 2)]
        # What nobody refers to has its time of grace from its deletion on.
        assert has_bundle(store, b"gone")

        async def update(name: str) -> int:
            return (await store.update(name, same, bundle(name.encode()))).version.version

        assert await update("f000") == 7
        assert [one.version for one in store.versions("f000")] == [7, 6, 5]
        assert (await store.create(function("gone"), bundle(b"gone"))).version.version == 2
        made = await store.go_back("f000", 5, lambda current, older: older)
        assert content_of(store, made.version.digest) == b"update 3"
    async with opened(first, keep_versions=3) as store:
        assert store.get("f000").version == 8


async def test_a_migration_that_breaks_off_leaves_the_store_to_the_service_that_wrote_it(
    first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(txn: object, databases: object) -> None:
        migrations._to_2(txn, databases)  # type: ignore[arg-type]
        raise RuntimeError("the power is gone")

    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", {1: broken})
        with pytest.raises(RuntimeError, match="power"):
            async with opened(first):
                pass
    monkeypatch.setattr(records, "SCHEMA", 1)
    async with opened(first):
        pass  # still of schema 1
    monkeypatch.undo()
    async with opened(first) as store:
        assert content_of(store, store.get("f119").digest) == b"code 39"


def test_every_former_schema_has_a_migration_and_a_store_to_try_it_with() -> None:
    former = range(1, records.SCHEMA)
    assert sorted(migrations.MIGRATIONS) == list(former)
    assert {f"schema-{number}.tar.xz" for number in former} <= {
        path.name for path in WRITTEN.iterdir()
    }


async def test_a_store_of_a_newer_service_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.create(function("a"), bundle(b"1"))
        await store._writer.run(
            lambda txn: txn.put(b"schema", records.u64(99), db=store._environment.databases["meta"])
        )
    shutil.copytree(tmp_path / "data/store", tmp_path / "before")
    with pytest.raises(
        SchemaMismatch, match=rf"schema 99, this service reads up to {records.SCHEMA}"
    ):
        async with opened(tmp_path):
            pass
    now = (tmp_path / "data/store/data.mdb").read_bytes()
    assert now == (tmp_path / "before/data.mdb").read_bytes()
