from __future__ import annotations

import dataclasses
import errno
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import many, trajectories

from step_ray import files, lock, manifest, publication, schema, sorting, store
from step_ray.trajectory import Review, Trajectory, Turn, content_hash


def episode(number: int, seconds: float = 0.0) -> Trajectory:
    return Trajectory(
        id=content_hash({"number": number}),
        task=f"game-{number}",
        env="alfworld",
        split="train",
        task_type="look",
        instruction="Do it.",
        initial_observation="You are here.",
        turns=(Turn("hm", f"open drawer {number}", "It is open.", seconds=seconds),),
        reward=1.0,
        success=True,
        outcome="success",
    )


def rows_of(numbers: range, seconds: float = 0.0) -> list[dict[str, Any]]:
    """Every third row is dropped."""
    return [
        schema.to_row(episode(n, seconds), {"number": n}, "" if n % 3 else "dull") for n in numbers
    ]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    store.publish(tmp_path / "data", rows_of(range(10)), extra={"a": 1}, rows_per_shard=4)
    return tmp_path / "data"


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def ids(folder: Path) -> list[str]:
    return [row["id"] for row in store.read_rows(folder, ["id"])]


def test_what_is_published_is_read(dataset: Path) -> None:
    made = [episode(n) for n in range(10)]
    assert list(store.read(dataset, kept_only=False)) == made
    assert list(store.read(dataset)) == [t for n, t in enumerate(made) if n % 3]
    found = store.read_manifest(dataset)
    assert (found.rows, found.kept, found.drop_reasons) == (10, 6, {"dull": 4})
    assert [shard.rows for shard in found.shards] == [4, 4, 2]
    assert (found.extra, found.schema_version) == ({"a": 1}, schema.SCHEMA_VERSION)
    assert store.verify_store(dataset) == []
    full = list(store.read_rows(dataset, kept_only=True))
    assert full[0].keys() == set(schema.SCHEMA.names)
    assert json.loads(full[0]["spec"]) == {"number": 1}
    metadata = pq.ParquetFile(shards(dataset)[0]).metadata
    assert metadata.row_group(0).column(0).compression == "ZSTD"


@settings(max_examples=10)
@given(data=st.data(), made=many(trajectories(), max_size=5))
def test_the_content_hash_is_of_the_set_of_rows(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, made: list[Trajectory]
) -> None:
    folder = tmp_path_factory.mktemp("store")
    one = store.publish(folder / "one", schema.to_rows(made), rows_per_shard=2)
    assert list(store.read(folder / "one")) == made
    tables = [schema.to_table(schema.to_rows([t])) for t in data.draw(st.permutations(made))]
    two = store.publish(folder / "two", tables, rows_per_shard=data.draw(st.integers(1, 4)))
    assert one.content_hash == two.content_hash
    assert one.rows == two.rows == len(made)
    if made:
        fewer = store.publish(folder / "three", schema.to_rows(made[1:]))
        assert fewer.content_hash != one.content_hash


def test_rows_and_tables_may_be_mixed(tmp_path: Path) -> None:
    rows = rows_of(range(7))
    mixed = [*rows[:2], schema.to_table(rows[2:6]), rows[6]]
    store.publish(tmp_path, mixed, rows_per_shard=3)
    assert ids(tmp_path) == [row["id"] for row in rows]


def test_an_empty_dataset_is_a_dataset(tmp_path: Path) -> None:
    assert store.publish(tmp_path, []).rows == 0
    assert list(store.read(tmp_path)) == []
    assert store.verify_store(tmp_path) == []


def test_publishing_the_same_again_changes_nothing(dataset: Path) -> None:
    before = store.read_manifest(dataset)
    names = {path.name for path in dataset.iterdir()}
    again = store.publish(dataset, reversed(rows_of(range(10), seconds=9.0)), extra={"a": 1})
    assert again == before == store.read_manifest(dataset)
    assert {path.name for path in dataset.iterdir()} == names


def test_new_lineage_of_the_same_content_is_recorded(dataset: Path) -> None:
    before = store.read_manifest(dataset)
    store.publish(dataset, rows_of(range(10)), extra={"a": 2})
    assert store.read_manifest(dataset) == dataclasses.replace(before, extra={"a": 2})


def test_other_content_is_refused_unless_replace(dataset: Path) -> None:
    before = sorted(path.name for path in dataset.iterdir())
    with pytest.raises(store.StoreError, match="another dataset is published here"):
        store.publish(dataset, rows_of(range(9)))
    assert sorted(path.name for path in dataset.iterdir()) == before
    assert store.verify_store(dataset) == []
    store.publish(dataset, rows_of(range(9)), replace=True)
    assert len(ids(dataset)) == 9
    assert store.verify_store(dataset) == []  # the old shards are gone


def test_two_rows_of_one_id_are_refused(tmp_path: Path) -> None:
    rows = rows_of(range(3))
    with pytest.raises(store.StoreError, match=f"two rows have id {rows[0]['id']}"):
        store.publish(tmp_path, [*rows, rows[0]], rows_per_shard=2)
    assert [path.name for path in tmp_path.iterdir()] == [publication.LOCK]


def test_an_id_in_two_shards_is_noticed(dataset: Path) -> None:
    path = dataset / manifest.MANIFEST
    value = json.loads(path.read_text())
    value["shards"].append(value["shards"][0])
    path.write_text(json.dumps(value))
    with pytest.raises(store.StoreError, match="occurs twice"):
        list(store.read(dataset))


# --- damage


@pytest.mark.parametrize("how", ["torn", "flipped", "foreign", "missing"])
def test_a_damaged_shard_is_refused_and_can_be_made_again(dataset: Path, how: str) -> None:
    shard = shards(dataset)[1]
    content = bytearray(shard.read_bytes())
    if how == "torn":
        shard.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    elif how == "foreign":
        pq.write_table(pa.table({"id": ["x"]}), shard)
    else:
        shard.unlink()
    with pytest.raises(
        store.StoreError, match=rf"{shard.name}.*run the command that made it again"
    ):
        list(store.read(dataset))
    assert any(shard.name in problem for problem in store.verify_store(dataset))
    damaged = shard.read_bytes() if shard.exists() else None
    found = store.publish(dataset, rows_of(range(10)), rows_per_shard=4)
    assert store.verify_store(dataset) == []
    assert len(ids(dataset)) == 10
    assert shard.exists()  # made again, under the same name
    if damaged is not None:
        assert (dataset / "quarantine" / shard.name).read_bytes() == damaged
        assert shard.name in found.quarantined[0].problem


def test_large_rows_make_small_shards(tmp_path: Path) -> None:
    rows = rows_of(range(40))
    for row in rows[:20]:
        row["instruction"] = row["id"] * 2000
    size = schema.to_table(rows[:1]).nbytes
    store.publish(tmp_path, rows, rows_per_shard=10, bytes_per_shard=5 * size)
    counts = [shard.rows for shard in store.read_manifest(tmp_path).shards]
    assert sum(counts) == 40
    assert counts[0] == 5
    assert max(counts) == 10  # where rows are small their number decides
    tables = [pq.read_table(path) for path in shards(tmp_path)]
    assert max(table.nbytes for table in tables) < 7 * size
    assert ids(tmp_path) == [row["id"] for row in rows]


def test_many_blocks_make_few_shards(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    paths = []
    for number in range(300):
        paths.append(tmp_path / "raw" / f"{number:05d}.parquet")
        pq.write_table(schema.to_table(rows_of(range(number, number + 1))), paths[-1])
    found = store.publish(tmp_path / "out", store.raw_tables(paths), rows_per_shard=200)
    assert [shard.rows for shard in found.shards] == [200, 100]
    assert store.verify_store(tmp_path / "out") == []


def test_quarantine_takes_the_manifest_of_a_listed_shard_along(dataset: Path) -> None:
    shard = shards(dataset)[1]
    moved = store.quarantine(dataset, shard.name)
    assert moved == dataset / "quarantine" / shard.name
    assert moved.exists()
    with pytest.raises(store.StoreError, match="no dataset is published here"):
        store.read_manifest(dataset)
    store.publish(dataset, rows_of(range(10)))
    assert store.verify_store(dataset) == []
    with pytest.raises(store.StoreError, match="no such file"):
        store.quarantine(dataset, "../x")


def test_an_unlisted_file_is_not_read_but_reported(dataset: Path) -> None:
    stranger = dataset / "part-00007-0123456789ab.parquet"
    pq.write_table(schema.to_table(rows_of(range(90, 95))), stranger)
    assert len(ids(dataset)) == 10
    (problem,) = store.verify_store(dataset)
    assert stranger.name in problem
    said: list[str] = []
    store.publish(dataset, rows_of(range(9)), replace=True, note=said.append)
    # Nobody's orphan, as its name is not its checksum: kept, aside, and named.
    assert not stranger.exists()
    assert (dataset / "quarantine" / stranger.name).exists()
    (aside,) = store.read_manifest(dataset).quarantined
    assert (aside.name, aside.problem) == (
        f"quarantine/{stranger.name}",
        "not in the manifest, and not written by a publication",
    )
    assert [stranger.name in text for text in said] == [True]
    assert store.verify_store(dataset) == []
    store.publish(dataset, rows_of(range(9)))
    assert store.read_manifest(dataset).quarantined == (aside,)  # it is not forgotten


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "format version 99"),
        ({"schema_version": 99}, "schema version 99"),
        ({"surprise": 1}, "damaged"),
        ({"shards": [{"name": "x"}]}, "damaged"),
    ],
)
def test_a_manifest_of_another_kind(dataset: Path, change: dict[str, Any], message: str) -> None:
    path = dataset / manifest.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(store.StoreError, match=f"manifest.json: {message}"):
        list(store.read(dataset))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"stages": {}}', "\x00"])
def test_no_manifest_at_all(dataset: Path, text: str) -> None:
    (dataset / manifest.MANIFEST).write_text(text)
    with pytest.raises(store.StoreError, match=r"manifest\.json: not"):
        list(store.read(dataset))


def test_a_manifest_that_lies_is_found_out(dataset: Path) -> None:
    path = dataset / manifest.MANIFEST
    lie = {"rows": 11, "kept": 7, "drop_reasons": {}, "content_hash": "0"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **lie}))
    assert len(store.verify_store(dataset)) == 4


def test_a_shard_of_another_schema_version(tmp_path: Path) -> None:
    table = schema.to_table(rows_of(range(2)))
    store.publish(tmp_path, [table])
    (shard,) = shards(tmp_path)
    pq.write_table(table.replace_schema_metadata({schema.VERSION_KEY: b"3"}), shard)
    path = tmp_path / manifest.MANIFEST
    value = json.loads(path.read_text())
    value["shards"][0] |= {"sha256": files.sha256_file(shard), "bytes": shard.stat().st_size}
    path.write_text(json.dumps(value))
    with pytest.raises(store.StoreError, match="schema version 3, but this step-ray reads"):
        list(store.read(tmp_path))


def test_datasets_of_version_1_are_read(tmp_path: Path) -> None:
    """Reviews had no raw text then."""
    review = Review(True, "loop", "e", "r", "f", "t", "look")
    turn = Turn("hm", "look", "o", verdict="error", review=review)
    made = [dataclasses.replace(episode(n), turns=(turn,)) for n in range(3)]
    store.publish(tmp_path, schema.to_rows(made))
    (shard,) = shards(tmp_path)
    rows, digest = pq.read_table(shard).to_pylist(), manifest.Digest(1)
    for row in rows:
        del row["turns"][0]["review"]["raw"]
        digest.add(row)
    old = pa.Table.from_pylist(rows).replace_schema_metadata({schema.VERSION_KEY: b"1"})
    pq.write_table(old, shard)
    path = tmp_path / manifest.MANIFEST
    value = json.loads(path.read_text()) | {"schema_version": 1, "content_hash": digest.result()}
    value["shards"][0] |= {"sha256": files.sha256_file(shard), "bytes": shard.stat().st_size}
    path.write_text(json.dumps(value))
    assert store.verify_store(tmp_path) == []
    assert list(store.read(tmp_path)) == made
    again = store.publish(tmp_path / "new", [schema.conform(pq.read_table(shard), "here")])
    assert again.schema_version == 2
    assert list(store.read(tmp_path / "new")) == made


# --- crashes

KILL = """
import os, signal, sys
from pathlib import Path
from step_ray import files, publication, store
from test_store import rows_of

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

folder, moment, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if moment == "before the manifest":
    files.write_json_atomic = die
elif moment == "before the shards' names":
    real = publication._write_shard
    def write(folder, index, table):
        return real(folder, index, table) if index < 2 else die()
    publication._write_shard = write
store.publish(folder, rows_of(range(count)), rows_per_shard=2, replace=True)
"""


@pytest.mark.parametrize("moment", ["before the manifest", "before the shards' names"])
@pytest.mark.parametrize("published_before", [False, True])
def test_a_kill_leaves_nothing_half_published(
    tmp_path: Path, moment: str, published_before: bool
) -> None:
    if published_before:
        store.publish(tmp_path, rows_of(range(5)), rows_per_shard=2)
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(tmp_path), moment, "8"],
        env={"PYTHONPATH": f"{Path(__file__).parent}:{Path(store.__file__).parents[1]}"},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) > 1  # the crash did leave files
    if published_before:
        assert len(ids(tmp_path)) == 5
    else:
        with pytest.raises(store.StoreError, match="no dataset is published here"):
            ids(tmp_path)
    store.publish(tmp_path, rows_of(range(8)), rows_per_shard=3, replace=True)
    assert len(ids(tmp_path)) == 8
    assert store.verify_store(tmp_path) == []  # and no orphan is left


@pytest.mark.parametrize("broken", ["_write_shard", "read_manifest"])
def test_any_error_leaves_the_old_dataset(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = sorted(path.name for path in dataset.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(publication, broken, interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.publish(dataset, rows_of(range(3)), replace=True)
    assert sorted(path.name for path in dataset.iterdir()) == before
    assert store.verify_store(dataset) == []


def test_a_full_disk_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(table: pa.Table, path: Path, **_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(store.StoreError, match=rf"{tmp_path}.*No space left.*free space"):
        store.publish(tmp_path, rows_of(range(3)))
    assert [path.name for path in tmp_path.iterdir()] == [publication.LOCK]


def test_an_unwritable_place_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(store.StoreError, match="a file stands where a folder is needed"):
        store.publish(tmp_path / "file", [])
    with pytest.raises(store.StoreError, match="a file stands where a folder is needed"):
        store.publish(tmp_path / "file" / "below", [])


def test_two_cannot_publish_at_once(tmp_path: Path) -> None:
    with (
        lock.locked(tmp_path / publication.LOCK),
        pytest.raises(store.StoreError, match=r"held by process \d+ on .*another process publ"),
    ):
        store.publish(tmp_path, [])


def test_an_error_of_the_rows_is_the_callers(tmp_path: Path) -> None:
    def rows() -> Any:
        yield from rows_of(range(2))
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        store.publish(tmp_path, rows(), rows_per_shard=1)
    with pytest.raises(schema.SchemaError, match="columns missing"):
        store.publish(tmp_path, [{"id": "x"}])
    assert [path.name for path in tmp_path.iterdir()] == [publication.LOCK]


# --- raw files


@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
def test_raw_rows_come_once_and_in_order(tmp_path: Path, rows_at_once: int) -> None:
    parts = [range(5, 9), range(5), range(3, 7)]
    for name, part in zip("bac", parts, strict=True):
        table = schema.to_table(rows_of(part, seconds=part[0]))
        extra = table.append_column("phase_seconds", [[1.0] * len(part)])
        pq.write_table(extra.replace_schema_metadata(None), tmp_path / f"{name}.parquet")
    paths = shards(tmp_path)
    rows = [
        row
        for table in store.raw_tables(paths, rows_at_once=rows_at_once)
        for row in table.to_pylist()
    ]
    assert [row["id"] for row in rows] == sorted(episode(n).id for n in range(9))
    assert {row["turns"][0]["seconds"] for row in rows} == {0.0, 5.0}  # "a", then "b", never "c"
    wanted = {episode(1).id, episode(8).id}
    store.publish(tmp_path / "out", store.raw_tables(paths, wanted, rows_at_once))
    assert ids(tmp_path / "out") == sorted(wanted)


def test_raw_files_are_each_read_once_however_many_shards_come_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        rows = rows_of(range(5 * number, 5 * number + 5))
        pq.write_table(schema.to_table(rows), tmp_path / f"{number:02d}.parquet")
    paths, opened = shards(tmp_path), []
    read = publication.read_parquet

    def counting(path: Path, columns: list[str] | None) -> pa.Table:
        opened.append((path, columns == ["id"]))
        return read(path, columns)

    monkeypatch.setattr(sorting, "read_parquet", counting)
    for buffer in (1, 10**9):  # each file into its parts at once, or all of them at the end
        opened.clear()
        found = list(store.raw_tables(paths, rows_at_once=7, buffer=buffer))
        assert [table.num_rows for table in found] == [7] * 14 + [2]
        keys = [key for table in found for key in table.column("id").to_pylist()]
        assert keys == sorted(episode(n).id for n in range(100))
        assert len(opened) == len(set(opened)) == 2 * len(paths)
    assert sorted(tmp_path.iterdir()) == paths  # nothing is left of the parts


def test_what_a_broken_off_sort_leaves_is_removed(tmp_path: Path) -> None:
    pq.write_table(schema.to_table(rows_of(range(9))), tmp_path / "a.parquet")
    tables = store.raw_tables(shards(tmp_path), rows_at_once=3)
    next(tables)
    assert len(list(tmp_path.iterdir())) > 1
    tables.close()  # type: ignore[attr-defined]
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_bad_raw_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 half")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "short.parquet")
    for name in ("torn", "other", "short", "gone"):
        with pytest.raises(store.StoreError, match=rf"{name}\.parquet: "):
            list(store.raw_tables([tmp_path / f"{name}.parquet"]))
