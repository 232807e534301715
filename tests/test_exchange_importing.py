"""Import: what can be read and replayed is published, every other record is counted and named."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from step_ray import store
from step_ray.cli import app
from step_ray.envs import make_env
from step_ray.envs.alfworld.env import ALFWorldEnv
from step_ray.exchange.importing import REJECTED, Import, as_text, import_records
from step_ray.exchange.records import ExchangeError
from step_ray.exchange.tasks import _ETO_TASKS
from step_ray.recipes.replay import replay
from step_ray.synthesis.golden import golden_episode
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.trajectory import Trajectory

GAMES = [
    "games.train=2",
    "games.valid_seen=1",
    "games.valid_unseen=1",
    "types=[pick_and_place_simple]",
]


def alfworld() -> ALFWorldEnv:
    env = make_env(
        "alfworld",
        games={"train": 2, "valid_seen": 1, "valid_unseen": 1},
        types=["pick_and_place_simple"],
    )
    assert isinstance(env, ALFWorldEnv)
    return env


@pytest.fixture(scope="module")
def played() -> list[Trajectory]:
    """The expert's episodes of two games."""
    env = alfworld()
    episodes = []
    for task in env.tasks("train"):
        spec = EpisodeSpec("alfworld", "", "train", task.id, task.type, 0, max_steps=60)
        episodes.append(golden_episode(spec, env, task))
    env.close()
    return episodes


def as_eto(episode: Trajectory, **more: Any) -> dict[str, Any]:
    """The episode as ETO stores one."""
    says: list[tuple[str, str]] = [
        ("human", "Interact with a household."),
        ("gpt", "OK"),
        ("human", episode.initial_observation),
    ]
    for turn in episode.turns:
        says.append(("gpt", f"Thought: {turn.thought}\nAction: {turn.action}"))
        says.append(("human", f"Observation: {turn.observation}"))
    messages = [{"from": sender, "value": text} for sender, text in says[:-1]]
    path = f"json_2.1.1/train/{episode.task}/game.tw-pddl"
    return {"id": "x", "game_file": path, "conversations": messages, **more}


def write(path: Path, records: Any) -> Path:
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def reasons(folder: Path) -> list[str]:
    lines = (folder / REJECTED).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["reason"] for line in lines]


def test_replayed_episodes_are_what_the_engine_answers(
    played: list[Trajectory], tmp_path: Path
) -> None:
    source = write(tmp_path / "eto.json", [as_eto(episode) for episode in played])
    out = tmp_path / "out"
    found = import_records(Import("eto", source, out, env="alfworld", settings=GAMES))
    assert (found.kept, found.dropped, found.rejected) == (2, 0, ())
    env = alfworld()
    imported = {trajectory.task: trajectory for trajectory in store.read(out)}
    for episode in played:
        again = imported[episode.task]
        assert list(replay(again, env)) == []
        assert (again.reward, again.success, again.outcome) == (1.0, True, "success")
        assert again.executed_actions == episode.executed_actions
        assert [turn.thought for turn in again.turns] == [turn.thought for turn in episode.turns]
    env.close()
    assert store.verify_store(out) == []


def test_a_task_without_a_name_is_found_by_its_first_observation(
    played: list[Trajectory], tmp_path: Path
) -> None:
    record = as_eto(played[0], game_file=None)
    record["conversations"][2]["value"] += "\nAVAILABLE ACTIONS: look, inventory"
    source = write(tmp_path / "eto.json", [record])
    import_records(Import("eto", source, tmp_path / "out", env="alfworld", settings=GAMES))
    assert [trajectory.task for trajectory in store.read(tmp_path / "out")] == [played[0].task]


def test_every_record_that_does_not_hold_is_named(played: list[Trajectory], tmp_path: Path) -> None:
    good = as_eto(played[0])
    other = json.loads(json.dumps(good))
    other["conversations"][4]["value"] = "Observation: A cow looks at you."
    elsewhere = json.loads(json.dumps(good).replace("room", "field"))
    elsewhere["game_file"] = "json_2.1.1/train/none/trial_1/game.tw-pddl"
    shorter = {**good, "conversations": good["conversations"][:-2], "reward": 1.0}
    records = [good, good, other, elsewhere, shorter, {"id": 3}]
    out = tmp_path / "out"
    heard: Counter[str] = Counter()
    wanted = Import(
        "eto", write(tmp_path / "eto.json", records), out, env="alfworld", settings=GAMES
    )
    found = import_records(wanted, heard.update)
    expected = ["duplicate", "other_observation", "unknown_task", "other_reward", "no_messages"]
    assert reasons(out) == expected
    assert [where for where, _, _ in found.rejected] == [f"eto.json[{i}]" for i in range(1, 6)]
    lineage = store.read_manifest(out).extra["imported"]
    assert lineage["records"] == len(records)
    assert lineage["rejected"] == dict.fromkeys(expected, 1)
    assert heard == {"imported": 1, **{f"rejected {reason}": 1 for reason in expected}}
    assert "rejected: other_reward" in as_text(found)


def test_other_observations_are_taken_from_the_engine_if_asked(
    played: list[Trajectory], tmp_path: Path
) -> None:
    record = as_eto(played[0])
    record["conversations"][4]["value"] = "Observation: A cow looks at you."
    source = write(tmp_path / "eto.json", [record])
    out = tmp_path / "out"
    import_records(Import("eto", source, out, env="alfworld", settings=GAMES, strict=False))
    (trajectory,) = store.read(out)
    assert trajectory.turns[0].observation == played[0].turns[0].observation


def test_an_episode_that_did_not_succeed_is_published_as_dropped(
    played: list[Trajectory], tmp_path: Path
) -> None:
    record = as_eto(played[0])
    record["conversations"] = record["conversations"][:6]
    source = write(tmp_path / "eto.json", [record, as_eto(played[1])])
    out = tmp_path / "out"
    found = import_records(Import("eto", source, out, env="alfworld", settings=GAMES))
    assert (found.kept, found.dropped) == (1, 1)
    manifest = store.read_manifest(out)
    assert manifest.drop_reasons == {"low_reward": 1}
    (dropped,) = [row for row in store.read_rows(out) if not row["keep"]]
    assert dropped["outcome"] == "step_limit"


def test_without_replay_a_reward_is_never_guessed(played: list[Trajectory], tmp_path: Path) -> None:
    records = [as_eto(played[0]), as_eto(played[1], reward=0.25)]
    source = write(tmp_path / "eto.json", records)
    out = tmp_path / "out"
    asked = Import("eto", source, out, env="alfworld", replayed=False, min_reward=0.2)
    import_records(asked)
    assert reasons(out) == ["no_reward"]
    (trajectory,) = store.read(out)
    assert (trajectory.reward, trajectory.env, trajectory.outcome) == (0.25, "alfworld", "failure")
    told = dataclasses.replace(asked, output=tmp_path / "told", reward=1.0)
    assert import_records(told).kept == 2


def test_lines_files_and_folders_are_read_and_torn_ones_named(
    played: list[Trajectory], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    line = json.dumps(as_eto(played[0]))
    (folder / "a.jsonl").write_text(f"{line}\n\n{line[:50]}\n", encoding="utf-8")
    (folder / "b.json.gz").write_bytes(gzip.compress(json.dumps([as_eto(played[1])]).encode()))
    (folder / "c.json").write_text('{"torn', encoding="utf-8")
    (folder / "d.json.xz").write_bytes(b"no xz")
    (folder / "e.parquet").write_bytes(b"PAR1")
    (folder / "notes.txt").write_text("not looked at", encoding="utf-8")
    found = import_records(Import("eto", folder, tmp_path / "out", reward=1.0))
    assert found.kept == 2
    assert [(where, reason) for where, reason, _ in found.rejected] == [
        ("a.jsonl:3", "unreadable"),
        ("c.json", "unreadable"),
        ("d.json.xz", "unreadable"),
        ("e.parquet", "unreadable"),
    ]


def test_nothing_to_import_is_an_error_that_says_why(tmp_path: Path) -> None:
    source = write(tmp_path / "eto.json", [{"id": 3}])
    with pytest.raises(ExchangeError, match=r"1 no_messages.*eto.json\[0\]"):
        import_records(Import("eto", source, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ExchangeError, match="no file to import"):
        import_records(Import("eto", tmp_path / "nowhere", tmp_path / "out"))
    with pytest.raises(ExchangeError, match="unknown format"):
        import_records(Import("csv", source, tmp_path / "out"))


def sample(name: str) -> Path:
    folder = os.environ.get("STEP_RAY_TEST_DATA")
    path = Path(folder or ".") / name
    if not folder or not path.exists():
        pytest.skip(f"set STEP_RAY_TEST_DATA to a folder with {name}")
    return path


@pytest.mark.parametrize("env", ["alfworld", "sciworld", "webshop"])
def test_etos_own_episodes_are_read(env: str, tmp_path: Path) -> None:
    source = sample(f"trajectories/eto_icl_{env}.json")
    found = import_records(Import("eto", source, tmp_path / "out", reward=1.0))
    assert (found.kept, found.rejected) == (1, ())
    (trajectory,) = store.read(tmp_path / "out")
    assert all(turn.thought and turn.action for turn in trajectory.turns)
    (record,) = json.loads(source.read_text(encoding="utf-8"))
    assert len(trajectory.turns) == sum(m.get("role") != "user" for m in record)


def test_etos_numbers_of_scienceworlds_tasks() -> None:
    from step_ray.envs.scienceworld.tasks import engine_name

    numbers = json.loads(sample("scienceworld/eto_taskname2id.json").read_text(encoding="utf-8"))
    assert {engine_name(name): _ETO_TASKS[number] for name, number in numbers.items()} == {
        engine_name(name): engine_name(name) for name in numbers
    }


def test_oracle_logs_are_replayed_in_the_real_engine(tmp_path: Path) -> None:
    pytest.importorskip("scienceworld", reason="pip install 'step-ray[scienceworld]'")
    source = sample("scienceworld/oracle_log/task19-93-102.json.xz")
    easy = "simplifications=[openDoors,selfWateringFlowerPots,teleportAction]"
    asked = Import("scienceworld-log", source, tmp_path / "out", "scienceworld", settings=[easy])
    found = import_records(asked)
    assert (found.kept, found.rejected) == (10, ())
    for trajectory in store.read(tmp_path / "out"):
        assert trajectory.success
        assert trajectory.provenance.env_build.startswith("scienceworld-")


def test_the_command_says_what_became_of_the_records(
    played: list[Trajectory], tmp_path: Path
) -> None:
    source = write(tmp_path / "eto.json", [as_eto(played[0]), {"id": 1}])
    asked = ["import", "eto", str(source), str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*asked, "--reward", "1"])
    assert done.exit_code == 0
    assert "1  kept" in done.output
    assert "1  rejected: no_messages" in done.output
    assert "eto.json[1]" in done.output
    failed = CliRunner().invoke(app, ["import", "csv", *asked[2:]])
    assert failed.exit_code == 2
    assert "formats are eto, agentgym, messages, scienceworld-log" in failed.output
