from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_store import rows_of

from step_ray import files, store
from step_ray.run import Run, RunError, Stage, difference, read_run, verify_run

CONFIG = {"seed": 0, "golden": {"fraction": 0.5, "max_steps": 40}, "ray": {"num_cpus": 2}}


def changed(**sections: Any) -> dict[str, Any]:
    return {**CONFIG, **sections}


def write(stage: Stage, text: str = "hello") -> None:
    """The work of a stage."""
    if not stage.done:
        (stage.path / "out.txt").write_text(text)
        stage.finish({"text": stage.path / "out.txt"}, {"env": 1.0, "student": 2.0})


def pipeline(run: Run, fraction: float = 0.5, steps: int = 10) -> list[bool]:
    """golden -> base -> evaluation, and one stage apart; says which of them were done already."""
    with run.stage("golden", config={"fraction": fraction}) as golden:
        was = [golden.done]
        write(golden, f"golden {fraction}")
    with run.stage("base", {"data": golden, "seed": 1}, {"steps": steps}) as base:
        was.append(base.done)
        write(base, f"base {fraction} {steps}")
    with run.stage("evaluation", {"model": base}) as evaluation:
        was.append(evaluation.done)
        write(evaluation)
    with run.stage("alone") as alone:
        was.append(alone.done)
        write(alone)
    return was


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Run.open(tmp_path / "run", CONFIG) as run:
        assert pipeline(run) == [False] * 4
    return tmp_path / "run"


def status(folder: Path, stage: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / stage / "stage.json").read_text())
    return record


def test_what_is_done_is_skipped(folder: Path) -> None:
    before = status(folder, "base")
    with Run.open(folder, CONFIG) as run:
        assert pipeline(run) == [True] * 4
        with run.stage("base", {"data": _done(run, "golden"), "seed": 1}, {"steps": 10}) as base:
            assert base.outputs == {"text": folder / "base" / "out.txt"}
            with pytest.raises(RunError, match="already done"):
                base.finish()
    assert status(folder, "base") == before
    assert verify_run(folder) == []


def _done(run: Run, name: str) -> Stage:
    with run.stage(name, config={"fraction": 0.5}) as stage:
        assert stage.done
    return stage


def test_the_manifest_has_lineage_and_time(folder: Path) -> None:
    found = read_run(folder)
    assert list(found["stages"]) == ["golden", "base", "evaluation", "alone"]
    golden, base = found["stages"]["golden"], found["stages"]["base"]
    assert base["identity"]["inputs"]["data"]["fingerprint"] == golden["fingerprint"]
    hashes = base["identity"]["inputs"]["data"]["outputs"]
    assert hashes == {"text": files.sha256_file(folder / "golden" / "out.txt")}
    assert found["seconds_by_phase"] == {"env": 4.0, "student": 8.0}
    assert found["machine"]["cpus"] >= 1
    assert "pyarrow" in found["packages"]
    assert json.loads((folder / "config.json").read_text()) == CONFIG


def test_another_config_is_refused_with_the_difference(folder: Path) -> None:
    other = changed(golden={"fraction": 0.25, "max_steps": 40}, more=1)
    with pytest.raises(RunError) as caught:
        Run.open(folder, other)
    text = str(caught.value)
    assert "golden.fraction: 0.5 -> 0.25" in text
    assert "more: (absent) -> 1" in text
    assert "max_steps" not in text
    assert "--fresh" in text
    assert json.loads((folder / "config.json").read_text()) == CONFIG
    Run.open(folder, other, fresh=True).close()
    assert json.loads((folder / "config.json").read_text()) == other


def test_how_the_work_is_done_may_change(folder: Path) -> None:
    other = changed(ray={"num_cpus": 64})
    with Run.open(folder, other, ignore=["ray"]) as run:
        assert pipeline(run) == [True] * 4
    assert json.loads((folder / "config.json").read_text()) == other
    with pytest.raises(RunError, match="num_cpus: 64 -> 2"):
        Run.open(folder, CONFIG, ignore=["golden", "ra", "ray.num"])


def test_a_changed_stage_is_refused_unless_fresh(folder: Path) -> None:
    with (
        Run.open(folder, CONFIG) as run,
        pytest.raises(RunError, match=r"stage base was made differently:\n +config.steps: 10 -> 9"),
    ):
        pipeline(run, steps=9)
    with Run.open(folder, CONFIG, fresh=True) as run:
        # What comes before and what does not depend on it stays.
        assert pipeline(run, steps=9) == [True, False, False, True]
    assert (folder / "base" / "out.txt").read_text() == "base 0.5 9"
    (old,) = (folder / "stale").glob("base-*")
    assert (old / "out.txt").read_text() == "base 0.5 10"
    assert verify_run(folder) == []
    with Run.open(folder, CONFIG, fresh=True) as run:
        assert pipeline(run, steps=9) == [True] * 4
        pipeline(run, steps=10)
        pipeline(run, steps=9)
    assert len(list((folder / "stale").glob("base-*"))) == 3


def test_results_of_another_config_are_set_aside(folder: Path) -> None:
    """Else a run that is interrupted under new settings would show the figures of the old ones."""
    with Run.open(folder, CONFIG) as run:
        run.write_results({"students": ["old"]})
    with Run.open(folder, changed(ray={"num_cpus": 8}), fresh=True, ignore=["ray"]) as run:
        assert run.results == {"students": ["old"]}, "how the work is done makes no other figures"
    with Run.open(folder, changed(seed=1), fresh=True) as run:
        assert run.results == {}
    (kept,) = (folder / "stale").glob("results-*.json")
    assert json.loads(kept.read_text()) == {"students": ["old"]}


def test_fresh_alone_redoes_nothing(folder: Path) -> None:
    with Run.open(folder, CONFIG, fresh=True) as run:
        assert pipeline(run) == [True] * 4


def _fail(run: Run, error: type[BaseException]) -> None:
    with run.stage("golden") as stage:
        (stage.path / "partial").write_text("half")
        raise error("why")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_stage_is_resumed(tmp_path: Path, error: type[BaseException]) -> None:
    with Run.open(tmp_path, CONFIG) as run:
        with pytest.raises(error):
            _fail(run, error)
        expected = "failed" if error is ValueError else "interrupted"
        assert status(tmp_path, "golden")["status"] == expected
        assert verify_run(tmp_path) == [f"stage golden: {expected} ({error.__name__}: why)"]
        with run.stage("golden") as stage:
            assert (stage.done, stage.resumed) == (False, True)
            assert (stage.path / "partial").exists()
            write(stage)
    assert status(tmp_path, "golden")["attempts"] == 2
    assert "error" not in status(tmp_path, "golden")


KILLED = """
import os, signal, sys
from step_ray.run import Run
run = Run.open(sys.argv[1], {"a": 1})
with run.stage("golden") as stage:
    (stage.path / "partial").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_driver_leaves_a_run_to_resume(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert status(tmp_path, "golden")["status"] == "running"
    (problem,) = verify_run(tmp_path)
    assert "running" in problem
    with Run.open(tmp_path, {"a": 1}) as run, run.stage("golden") as stage:  # the lock is free
        assert stage.resumed
        assert (stage.path / "partial").exists()
        write(stage)
    assert verify_run(tmp_path) == []


def test_only_one_driver_at_a_time(tmp_path: Path) -> None:
    with (
        Run.open(tmp_path, CONFIG),
        pytest.raises(RunError, match=r"run.lock is held by process \d+ on .* since 20.*drivers"),
    ):
        Run.open(tmp_path, CONFIG)
    Run.open(tmp_path, CONFIG).close()
    with pytest.raises(RunError, match="another config"):  # a refusal holds no lock
        Run.open(tmp_path, {})
    Run.open(tmp_path, CONFIG).close()


@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_damaged_output_is_made_again(folder: Path, how: str) -> None:
    output = folder / "golden" / "out.txt"
    output.write_text("tampered") if how == "changed" else output.unlink()
    assert any(how in problem for problem in verify_run(folder))
    with Run.open(folder, CONFIG) as run:
        assert pipeline(run) == [False, True, True, True]
    assert verify_run(folder) == []


def test_a_damaged_dataset_is_made_again(tmp_path: Path) -> None:
    def make(run: Run) -> Stage:
        with run.stage("golden") as stage:
            if not stage.done:
                store.publish(stage.path, rows_of(range(5)))
                stage.finish({"data": stage.path})
        return stage

    with Run.open(tmp_path, CONFIG) as run:
        first = make(run)
        record = status(tmp_path, "golden")["outputs"]["data"]
        assert record["kind"] == "dataset"
        assert record["hash"] == store.read_manifest(first.path).content_hash
        assert make(run).done
        (shard,) = first.path.glob("*.parquet")
        shard.write_bytes(shard.read_bytes()[:-1])
        assert verify_run(tmp_path) != []
        assert make(run).resumed
        store.quarantine(first.path, next(first.path.glob("*.parquet")).name)
        assert make(run).resumed
    assert verify_run(tmp_path) == []


def test_stages_that_are_not_as_the_manifest_has_them_are_noticed(folder: Path) -> None:
    shutil.rmtree(folder / "base")
    (problem,) = verify_run(folder)
    assert "stage base: manifest.json lists it" in problem
    with Run.open(folder, CONFIG) as run:
        assert pipeline(run) == [True, False, True, True]
    assert verify_run(folder) == []
    write_record(folder / "alone", {**status(folder, "alone"), "seconds": 9.5})
    (problem,) = verify_run(folder)
    assert "stage alone: manifest.json says other things of it" in problem
    for text in ("{}", '{"stages": {}}'):
        (folder / "manifest.json").write_text(text)
        assert "manifest.json" in verify_run(folder)[0]


def write_record(stage: Path, record: dict[str, Any]) -> None:
    (stage / "stage.json").write_text(json.dumps(record))


@pytest.mark.parametrize("text", ["{", None])
def test_a_damaged_manifest_is_written_anew(folder: Path, text: str | None) -> None:
    manifest = folder / "manifest.json"
    manifest.unlink() if text is None else manifest.write_text(text)
    said = "is gone; run the command" if text is None else "not JSON.*; move it away and run"
    with pytest.raises(RunError, match=rf"manifest\.json.*{said}"):
        verify_run(folder)
    manifest.unlink(missing_ok=True)
    with Run.open(folder, CONFIG) as run:
        assert pipeline(run) == [True] * 4
    assert verify_run(folder) == []


@pytest.mark.parametrize("text", ["{", None])
def test_a_damaged_config_is_written_anew_by_fresh(folder: Path, text: str | None) -> None:
    with Run.open(folder, CONFIG) as run:
        run.write_results({"students": ["old"]})
    config = folder / "config.json"
    config.unlink() if text is None else config.write_text(text)
    with pytest.raises(RunError, match=r"config\.json.*put it back, or run .* with --fresh"):
        Run.open(folder, CONFIG)
    with Run.open(folder, CONFIG, fresh=True) as run:
        assert run.results == {}, "nobody knows of which config they were"
        assert pipeline(run) == [True] * 4
    assert json.loads(config.read_text()) == CONFIG
    assert verify_run(folder) == []


def test_a_damaged_folder_is_noticed_when_verified(tmp_path: Path) -> None:
    with Run.open(tmp_path, CONFIG) as run, run.stage("base") as stage:
        (stage.path / "model").mkdir()
        (stage.path / "model" / "weights").write_text("1")
        stage.finish({"model": stage.path / "model", "all": stage.path, "loss": [1.5]})
    assert verify_run(tmp_path) == []
    (tmp_path / "base" / "model" / "weights").write_text("2")
    assert len(verify_run(tmp_path)) == 2
    assert stage.outputs["loss"] == [1.5]


def test_a_later_stage_made_from_another_input_is_noticed(folder: Path) -> None:
    with (
        Run.open(folder, CONFIG, fresh=True) as run,
        run.stage("golden", config={"fraction": 0.1}) as golden,
    ):
        write(golden, "other")
    (problem,) = verify_run(folder)
    assert "stage base: made from another golden" in problem


def test_paths_and_values_are_inputs(tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("1")
    with Run.open(tmp_path / "run", CONFIG) as run:
        with run.stage("golden", {"data": data, "splits": ("a", "b")}) as stage:
            write(stage)
        with run.stage("golden", {"data": data, "splits": ["a", "b"]}) as stage:
            assert stage.done
        data.write_text("2")
        with (
            pytest.raises(RunError, match=r"inputs\.data\.hash: "),
            run.stage("golden", {"data": data, "splits": ["a", "b"]}),
        ):
            pass
        with pytest.raises(RunError, match="does not exist"), run.stage("x", {"a": tmp_path / "b"}):
            pass
        with pytest.raises(RunError, match="JSON-like"), run.stage("x", {"a": object()}):
            pass


def test_misuse_is_refused(tmp_path: Path) -> None:
    with Run.open(tmp_path / "run", CONFIG) as run:
        with pytest.raises(RunError, match="left without a call"), run.stage("golden") as stage:
            pass
        with (
            pytest.raises(RunError, match="stage golden is not done"),
            run.stage("base", {"data": stage}),
        ):
            pass
        for name in ("", "../x", "Golden", "stale"):
            with pytest.raises(RunError, match="cannot name a stage"), run.stage(name):
                pass
        with pytest.raises(RunError, match="outside the run"), run.stage("x") as stage:
            stage.finish({"a": tmp_path})
        with pytest.raises(RunError, match="was not written"), run.stage("x") as stage:
            stage.finish({"a": stage.path / "nothing"})
        (tmp_path / "run" / "mine").mkdir()
        (tmp_path / "run" / "mine" / "file").write_text("")
        with pytest.raises(RunError, match=r"holds files but no stage\.json"), run.stage("mine"):
            pass


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="not a run folder"):
        Run.open(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunError, match="not a run folder"):
        read_run(tmp_path)
    with pytest.raises(RunError, match="a file stands where a folder is needed"):
        Run.open(tmp_path / "thesis.tex", CONFIG)
    Run.open(tmp_path / "new", CONFIG).close()
    assert len(verify_run(tmp_path / "new")) == 1  # nothing was made yet


def test_a_full_disk_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with Run.open(tmp_path, CONFIG) as run:
        with run.stage("golden") as stage:
            write(stage)
        monkeypatch.setattr(files, "write_json_atomic", full)
        with pytest.raises(RunError, match=r"results\.json: No space left.*free space"):
            run.write_results({})
        with pytest.raises(RunError, match="free space"), run.stage("base"):
            pass


def test_results(tmp_path: Path) -> None:
    with Run.open(tmp_path, CONFIG) as run:
        assert run.results == {}
        run.write_results({"student": {"valid_seen": {"success": 0.5}}})
        assert run.results == {"student": {"valid_seen": {"success": 0.5}}}
        with pytest.raises(RunError, match="JSON-like"):
            run.write_results({"loss": float("nan")})


def test_seconds_add_up_over_attempts(tmp_path: Path) -> None:
    with Run.open(tmp_path, CONFIG) as run:
        with pytest.raises(ValueError, match="why"):
            _fail(run, ValueError)
        first = run.seconds()["golden"]["total"]
        with run.stage("golden") as stage:
            write(stage)
        found = run.seconds()["golden"]
        assert found["total"] >= first
        assert (found["env"], found["student"]) == (1.0, 2.0)


def test_broken_records_are_named(folder: Path) -> None:
    (folder / "golden" / "stage.json").write_text("{")
    with pytest.raises(RunError, match=r"golden/stage\.json: not JSON"):
        Run.open(folder, CONFIG)
    (folder / "golden" / "stage.json").write_text("[]")
    with pytest.raises(RunError, match="not a JSON object"):
        verify_run(folder)


def test_difference_is_by_dotted_field() -> None:
    assert difference({"a": {"b": 1, "c": [1]}}, {"a": {"b": 2, "c": [1]}}) == {"a.b": (1, 2)}
    assert repr(difference({"a": {}}, {"a": {"b": 1}})) == repr(
        {"a": ({}, _Named("(absent)")), "a.b": (_Named("(absent)"), 1)}
    )


class _Named:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text
