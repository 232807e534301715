"""Copies of datasets in a real S3-compatible server: exactly once, whatever is killed when."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from step_ray import bucket, faults, store
from step_ray.bucket import BucketError, ObjectPath, place
from step_ray.faults import Fault, FaultPlan
from step_ray.mirror import mirror
from step_ray.progress import Progress
from step_ray.recipes.copies import Copies
from step_ray.run import Run
from tests.s3_server import BUCKET, s3_server
from tests.test_store import ids, rows_of

pytest.importorskip("moto", reason="an S3-compatible server is needed")
ROOT = Path(__file__).parents[1]
UPLOAD = (
    "import sys, pathlib\nfrom step_ray.mirror import mirror\n"
    "mirror(pathlib.Path(sys.argv[1]), sys.argv[2], replace=True)"
)
# Half of an object is on its way when the power goes.
HALF = """
import os, pathlib, signal, sys
from step_ray import bucket
from step_ray.mirror import mirror
sent = []
def write(self, content):
    sent.append(self)
    stream = self.store.open_output_stream(self.path)
    stream.write(content if len(sent) == 1 else content[: len(content) // 2])
    if len(sent) > 1:
        os.kill(os.getpid(), signal.SIGKILL)
    stream.close()
bucket.ObjectPath.write_bytes = write
mirror(pathlib.Path(sys.argv[1]), sys.argv[2], replace=True)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server() as environment:
        yield environment


@pytest.fixture
def target(
    server: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    """A place of the test's own."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return f"s3://{BUCKET}/{name}/reflected"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    store.publish(tmp_path / "data", rows_of(range(10)), rows_per_shard=3)
    return tmp_path / "data"


def child(code: str, dataset: Path, target: str, *planned: Fault) -> int:
    plan = FaultPlan(str(dataset.parent / "marks"), planned)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), faults.VARIABLE: plan.to_json()}
    return subprocess.run(
        [sys.executable, "-c", code, str(dataset), target],
        env=environment,
        check=False,
        timeout=300,
    ).returncode


def objects(target: str) -> set[str]:
    there = place(target)
    assert isinstance(there, ObjectPath)
    return set(there.children())


def test_a_copy_is_the_dataset(dataset: Path, target: str) -> None:
    done = mirror(dataset, target)
    assert (done.sent, done.there) == (4, 0)
    assert list(store.read(target)) == list(store.read(dataset))
    assert store.read_manifest(target) == store.read_manifest(dataset)
    assert store.verify_store(target) == []
    again = mirror(dataset, target)
    assert (again.sent, again.there) == (0, 4)


@pytest.mark.parametrize("point", [("shard-sent", 1), ("shard-sent", 4), ("manifest-sent", 1)])
@pytest.mark.parametrize("before", [False, True])
def test_a_killed_upload_is_continued(
    dataset: Path, target: str, point: tuple[str, int], before: bool
) -> None:
    old = [row["id"] for row in rows_of(range(90, 95))]
    if before:
        store.publish(dataset.parent / "old", rows_of(range(90, 95)))
        mirror(dataset.parent / "old", target)
    assert child(UPLOAD, dataset, target, Fault("kill-driver", *point)) == -signal.SIGKILL
    if point[0] == "manifest-sent":
        assert ids(target) == ids(dataset)
    elif before:
        assert ids(target) == old
    else:
        with pytest.raises(store.StoreError, match="no dataset is published here"):
            ids(target)
    done = mirror(dataset, target, replace=True)
    assert done.there == (point[1] if point[0] == "shard-sent" else 4)
    assert ids(target) == ids(dataset)
    assert {name for name in objects(target) if name.endswith("json")} == {"manifest.json"}
    mirror(dataset, target)
    assert store.verify_store(target) == [] or before  # old shards may stay behind a kill


def test_half_an_object_is_none(dataset: Path, target: str) -> None:
    assert child(HALF, dataset, target) == -signal.SIGKILL
    assert len(objects(target)) == 1
    done = mirror(dataset, target)
    assert (done.sent, done.there) == (3, 1)
    assert store.verify_store(target) == []


def test_a_corrupt_object_is_named_and_mended(dataset: Path, target: str) -> None:
    mirror(dataset, target)
    shard = store.read_manifest(target).shards[1]
    path = place(target) / shard.name
    assert isinstance(path, ObjectPath)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(store.StoreError, match=rf"s3://.*{shard.name}: its content is not"):
        ids(target)
    assert any(shard.name in problem for problem in store.verify_store(target))
    said: list[str] = []
    assert mirror(dataset, target, note=said.append).sent == 1
    assert [shard.name in text for text in said] == [True]
    assert ids(target) == ids(dataset)


def test_a_missing_object_and_a_stranger_are_named(dataset: Path, target: str) -> None:
    mirror(dataset, target)
    there = place(target)
    assert isinstance(there, ObjectPath)
    first = store.read_manifest(target).shards[0].name
    (there / "stranger.parquet").write_bytes(b"x")
    (there / first).unlink()
    said = store.verify_store(target)
    assert any(first in text and "missing" in text for text in said)
    assert any("stranger.parquet" in text for text in said)
    with pytest.raises(store.StoreError, match=f"{first}: listed in the manifest but missing"):
        ids(target)


def test_another_dataset_is_not_replaced_unasked(dataset: Path, target: str) -> None:
    mirror(dataset, target)
    store.publish(dataset.parent / "other", rows_of(range(5)))
    with pytest.raises(store.StoreError, match="another dataset is published there"):
        mirror(dataset.parent / "other", target)
    assert ids(target) == ids(dataset)
    mirror(dataset.parent / "other", target, replace=True)
    assert len(ids(target)) == 5
    assert store.verify_store(target) == []  # the old shards are gone


def test_a_damaged_dataset_is_not_copied(dataset: Path, target: str) -> None:
    (shard, *_) = sorted(dataset.glob("*.parquet"))
    shard.write_bytes(b"x" * shard.stat().st_size)
    with pytest.raises(store.StoreError, match=f"{shard.name}: its content is not"):
        mirror(dataset, target)
    assert "manifest.json" not in objects(target)


def test_errors_say_what_to_do(dataset: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BucketError, match=r"s3://no-such-bucket/.*create the bucket"):
        mirror(dataset, "s3://no-such-bucket/data")
    with pytest.raises(store.StoreError, match="no dataset is published here"):
        list(store.read(f"{target}-nowhere"))
    monkeypatch.setattr(bucket, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(BucketError, match="check AWS_ENDPOINT_URL"):
        mirror(dataset, target)


@pytest.mark.parametrize("uri", ["s3://", "s3://UPPER/x", "s3://bucket//x", "s3://bucket/a b"])
def test_malformed_addresses(uri: str) -> None:
    with pytest.raises(BucketError, match="not an address like"):
        place(uri)


@pytest.mark.parametrize("uri", ["s3://key:secret@bucket/x", "s3://bucket/x?access_key=secret"])
def test_credentials_in_an_address_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(BucketError, match="environment instead") as caught:
        place(uri)
    assert "secret@" not in str(caught.value)
    assert "=secret" not in str(caught.value)


def test_a_run_copies_the_datasets_of_its_stages(target: str, tmp_path: Path) -> None:
    def work(run: Run) -> None:
        with run.stage("golden") as stage:
            if not stage.done:
                store.publish(stage.path, rows_of(range(4)))
                stage.finish({"data": stage.path})
        with run.stage("base") as stage:
            if not stage.done:
                (stage.path / "model").write_text("weights")
                stage.finish({"model": stage.path / "model"})

    progress = Progress(Console(file=io.StringIO()))
    for _ in range(2):  # what is done already is copied too, if it is not there yet
        with Run.open(tmp_path / "run", {}) as run:
            run.when_done = Copies(target, progress, replace=False)
            work(run)
        assert len(ids(f"{target}/golden")) == 4
        assert objects(target) == {"golden"}
    said = progress.console.file.getvalue()  # type: ignore[attr-defined]
    assert "golden: 1 shards sent, 0 were in" in said
    assert "golden: 0 shards sent, 1 were in" in said


def test_export_reads_and_writes_there(dataset: Path, target: str) -> None:
    from step_ray.exchange.exporting import Export, export

    mirror(dataset, target)
    export(Export(target, "messages", f"{target}-export"))
    assert objects(f"{target}-export") == {"train.parquet", "README.md"}
    export(Export(dataset, "messages", dataset.parent / "local"))
    sent = place(f"{target}-export") / "train.parquet"
    assert isinstance(sent, ObjectPath)
    assert sent.read_bytes() == (dataset.parent / "local" / "train.parquet").read_bytes()
    with pytest.raises(RuntimeError, match="not empty"):
        export(Export(target, "messages", f"{target}-export"))
