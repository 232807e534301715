"""Generated ALFWorld games: deterministic, well formed, disjoint, and winnable as written."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from step_ray.envs.alfworld import scenes
from step_ray.envs.alfworld.generate import (
    LAMP,
    NEEDS,
    SCENES,
    TASK_TYPES,
    generate_game,
    generate_games,
    goals_of,
)
from step_ray.envs.base import EnvError

FILES = {"game.tw-pddl", "initial_state.pddl", "traj_data.json"}


@pytest.fixture(scope="module", autouse=True)
def _wheel() -> None:
    try:
        scenes.wheel_root()
    except EnvError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def games(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    out = tmp_path_factory.mktemp("alfworld")
    return {
        split: generate_games(out, split, count, seed=7)
        for split, count in (("train", 180), ("valid_seen", 60), ("valid_unseen", 60))
    }


@dataclass
class Facts:
    """What a problem text says at the start."""

    kind: dict[str, str] = field(default_factory=dict)
    place: dict[str, str] = field(default_factory=dict)
    at: dict[str, str] = field(default_factory=dict)
    openable: set[str] = field(default_factory=set)
    all: dict[str, list[list[str]]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, problem: str) -> Facts:
        facts = cls()
        start, end = problem.index("(:init"), problem.index("(:goal")
        for name, rest in re.findall(r"\((\w+) ([^()]+)\)", problem[start:end]):
            facts.all[name].append(rest.split())
        for name, kind in facts.all["objectType"] + facts.all["receptacleType"]:
            facts.kind[name] = kind.removesuffix("Type")
        facts.place = dict(facts.all["inReceptacle"])  # type: ignore[arg-type]
        facts.at = dict(facts.all["receptacleAtLocation"])  # type: ignore[arg-type]
        facts.openable = {name for (name,) in facts.all["openable"]}
        return facts

    def names(self) -> dict[str, str]:
        """Names as the stock demangler gives them, from the ids alone."""
        everything = {word for rows in self.all.values() for row in rows for word in row}
        counts: Counter[str] = Counter()
        found = {}
        for name in sorted(everything, key=str.lower, reverse=True):
            base, _, rest = name.lower().partition("_bar_")
            if rest:
                base += "basin" * ("basin" in name.lower())
                counts[base] += 1
                found[name] = f"{base} {counts[base]}"
        return found


def solution(game: dict[str, Any], traj: dict[str, Any]) -> list[str]:
    """Commands that win, read off the initial state."""
    facts, params = Facts.read(game["pddl_problem"]), traj["pddl_params"]
    names, commands = facts.names(), []
    here = ""
    opened: set[str] = set()

    def visit(place: str) -> None:
        nonlocal here
        if facts.at[place] != here:
            commands.append(f"go to {names[place]}")
            here = facts.at[place]
        if place in facts.openable - opened:
            commands.append(f"open {names[place]}")
            opened.add(place)

    def first(kind: str) -> str:
        return next(name for name in facts.kind if facts.kind[name] == kind)

    target = params["parent_target"]
    things = [
        name
        for name, place in facts.place.items()
        if facts.kind[name] == params["object_target"] and facts.kind[place] != target
    ]
    need = NEEDS.get(traj["task_type"])
    for thing in things[: 2 if traj["task_type"] == "pick_two_obj_and_place" else 1]:
        visit(facts.place[thing])
        commands.append(f"take {names[thing]} from {names[facts.place[thing]]}")
        if need:
            visit(first(need[1]))
            verb = need[0].lower().removesuffix("able")
            commands.append(f"{verb} {names[thing]} with {names[first(need[1])]}")
        if target:
            visit(first(target))
            commands.append(f"move {names[thing]} to {names[first(target)]}")
        else:
            lamp = next(name for name in facts.place if facts.kind[name] == LAMP)
            visit(facts.place[lamp])
            commands.append(f"use {names[lamp]}")
    return commands


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    traj = json.loads((path.parent / "traj_data.json").read_text())
    return json.loads(path.read_text()), traj


def digest(root: Path) -> str:
    sha = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            sha.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return sha.hexdigest()


def test_same_files_in_every_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from step_ray.envs.alfworld.generate import generate_games as g;"
        "[g(Path(sys.argv[1]), s, 12, 3) for s in ('train', 'valid_seen', 'valid_unseen')];"
        "assert 'textworld' not in sys.modules and 'alfworld' not in sys.modules"
    )
    for name in ("a", "b"):
        environment = {**os.environ, "PYTHONHASHSEED": str(ord(name))}
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)], check=True, env=environment
        )
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    generate_games(tmp_path / "c", "train", 12, 4)
    assert digest(tmp_path / "c" / "train") != digest(tmp_path / "a" / "train")


def test_layout_and_schema(games: dict[str, list[Path]]) -> None:
    for split, paths in games.items():
        for path in paths:
            assert path.name == "game.tw-pddl"
            assert {p.name for p in path.parent.iterdir()} == FILES
            game, traj = load(path)
            assert game.keys() == {"pddl_domain", "grammar", "pddl_problem", "solvable"}
            assert game["solvable"] is True
            assert (path.parent / "initial_state.pddl").read_text() == game["pddl_problem"]
            params = traj["pddl_params"]
            target = params["parent_target"] or params["toggle_target"]
            number = traj["scene"]["scene_num"]
            assert path.parts[-4] == split
            assert path.parts[-3] == (
                f"{traj['task_type']}-{params['object_target']}-None-{target}-{number}"
            )
            assert path.parts[-2] == traj["task_id"]
            assert number in SCENES[split]  # type: ignore[index]
            sentence = traj["turk_annotations"]["anns"][0]["task_desc"]
            assert f"Your task is to: {sentence}." in game["grammar"]
            assert params["object_target"].lower() in sentence
            assert "UNKNOWN" not in game["grammar"]
        assert not [p for p in paths[0].parents[3].iterdir() if p.name.startswith(".")]


def test_problems_are_sound(games: dict[str, list[Path]]) -> None:
    for path in (p for paths in games.values() for p in paths):
        problem = load(path)[0]["pddl_problem"]
        assert problem.count("(") == problem.count(")")
        facts = Facts.read(problem)
        declared = dict(re.findall(r"^\s*(\S+) - (\w+)$", problem, re.M))
        used = {word for rows in facts.all.values() for row in rows for word in row}
        assert used <= declared.keys()
        starts = {row[1] for row in facts.all["atLocation"]}
        assert len(starts) == 1
        assert not starts & set(facts.at.values())
        receptacles = {row[0] for row in facts.all["receptacleType"]}
        assert receptacles == facts.at.keys()
        assert set(facts.place.values()) <= receptacles
        names = facts.names()
        assert len(set(names.values())) == len(names)
        assert not any("basinbasin" in name for name in names.values())
        for name in receptacles:  # FloorPlan420 has a sink basin in its bathtub
            kind = names[name].split()[0]
            assert kind == facts.kind[name].lower() or kind == "bathtubbasin", names[name]


def test_goal_is_open_and_reachable(games: dict[str, list[Path]]) -> None:
    for path in (p for paths in games.values() for p in paths):
        game, traj = load(path)
        facts, params = Facts.read(game["pddl_problem"]), traj["pddl_params"]
        kind, target = params["object_target"], params["parent_target"]
        outside = inside = 0
        for name, place in facts.place.items():
            if facts.kind[name] == kind:
                inside += facts.kind[place] == target
                outside += facts.kind[place] != target
        task_type = traj["task_type"]
        assert outside >= (2 if task_type == "pick_two_obj_and_place" else 1)
        if task_type in NEEDS:
            assert NEEDS[task_type][1] in facts.kind.values()
        else:
            assert inside == 0
        if task_type == "pick_cool_then_place_in_recep":
            assert not any(facts.kind[name] == kind for (name,) in facts.all["isCool"])
        if target:
            assert [f"{target}Type", f"{kind}Type"] in facts.all["canContain"]
        assert not facts.all["isClean"] + facts.all["isHot"] + facts.all["opened"]


def test_types_are_balanced_and_shares_obeyed(games: dict[str, list[Path]], tmp_path: Path) -> None:
    for paths in games.values():
        counts = Counter(path.parts[-3].split("-")[0] for path in paths)
        assert counts == dict.fromkeys(TASK_TYPES, len(paths) // 6)
    few = generate_games(
        tmp_path, "train", 8, 0, TASK_TYPES[:2], {TASK_TYPES[0]: 3, TASK_TYPES[1]: 1}
    )
    assert Counter(p.parts[-3].split("-")[0] for p in few) == {TASK_TYPES[0]: 6, TASK_TYPES[1]: 2}


def test_splits_share_no_game(games: dict[str, list[Path]], tmp_path: Path) -> None:
    trials = [path.parts[-2] for paths in games.values() for path in paths]
    assert len(set(trials)) == len(trials)
    train = {path.parts[-3] for path in games["train"]}
    for seed in (7, 8):
        seen = {p.parts[-3] for p in generate_games(tmp_path, "valid_seen", 90, seed)}
        assert not train & seen
    assert not set(SCENES["valid_unseen"]) & set(SCENES["train"])
    assert len(SCENES["train"]) == 108


def test_reused_extended_and_repaired(tmp_path: Path) -> None:
    first = generate_games(tmp_path, "train", 6, 1)
    stamps = [path.stat().st_mtime_ns for path in first]
    before = digest(tmp_path)
    longer = generate_games(tmp_path, "train", 9, 1)
    assert longer[:6] == first
    assert [path.stat().st_mtime_ns for path in first] == stamps
    for path in longer[6:]:
        for file in path.parent.iterdir():
            file.unlink()
        path.parent.rmdir()
        path.parent.parent.rmdir()
    (first[0].parent / "traj_data.json").unlink()
    first[1].write_text("{}")
    assert generate_games(tmp_path, "train", 6, 1) == first
    assert digest(tmp_path) == before


def test_rooms_look_like_alfred(games: dict[str, list[Path]]) -> None:
    """Means of 2,207 real games: 23.8 receptacles, 32.0 things, full tables, empty drawers."""
    receptacles, placed = [], []
    load_of: dict[str, list[int]] = defaultdict(list)
    for path in games["train"]:
        facts = Facts.read(load(path)[0]["pddl_problem"])
        receptacles.append(len(facts.at))
        placed.append(len(facts.place))
        held = Counter(facts.place.values())
        for name in facts.at:
            load_of[facts.kind[name]].append(held[name])
    assert 20 <= sum(receptacles) / len(receptacles) <= 26
    assert 28 <= sum(placed) / len(placed) <= 36
    assert sum(load_of["CounterTop"]) / len(load_of["CounterTop"]) > 4
    for kind in ("Drawer", "Cabinet"):
        assert 0.4 < load_of[kind].count(0) / len(load_of[kind]) < 0.8


def test_every_scene_and_type_generates() -> None:
    for number in SCENES["train"] + SCENES["valid_unseen"]:
        for task_type in TASK_TYPES:
            if goals_of(number, task_type):
                game = generate_game(number, task_type, random.Random(number))
                assert game["traj_data"]["scene"]["scene_num"] == number


def test_clear_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvError, match="unknown split 'test'"):
        generate_games(tmp_path, "test", 1, 0)  # type: ignore[arg-type]
    with pytest.raises(EnvError, match="unknown task type 'cook'"):
        generate_games(tmp_path, "train", 1, 0, ["cook"])
    with pytest.raises(EnvError, match="FloorPlan401 has nothing for pick_heat"):
        generate_game(401, "pick_heat_then_place_in_recep", random.Random(0))
    monkeypatch.setattr(scenes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvError, match=r"not installed.*pip install --no-deps alfworld==0\.4\.2"):
        scenes.wheel_root()


def test_native_engine_wins(games: dict[str, list[Path]]) -> None:
    engine = pytest.importorskip("step_ray.envs.alfworld.engine")
    for path in (p for paths in games.values() for p in paths):
        state = engine.Game.load(path).initial()
        assert not state.won(), path
        for command in solution(*load(path)):
            assert command in state.admissible(), (path, command)
            state.step(command)
        assert state.won(), path


@pytest.mark.parametrize("index", [0, pytest.param(slice(1, 6), marks=pytest.mark.slow)])
def test_stock_engine_wins(games: dict[str, list[Path]], index: Any) -> None:
    textworld = pytest.importorskip("textworld")
    stock = pytest.importorskip("alfworld.agents.environment.alfred_tw_env")
    chosen = [games["valid_unseen"][0]] if index == 0 else games["valid_seen"][index]
    for path in chosen:
        env = stock.AlfredDemangler(
            textworld.envs.PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True))
        )
        env.load(str(path))
        state = env.reset()
        for command in solution(*load(path)):
            assert command in state["admissible_commands"], (path, command)
            state, _, _ = env.step(command)
        assert state["won"], path
        env.close()


def test_stock_loader_takes_all(games: dict[str, list[Path]]) -> None:
    stock = pytest.importorskip("alfworld.agents.environment.alfred_tw_env")
    root = games["train"][0].parents[3]
    config = {
        "env": {"goal_desc_human_anns_prob": 0, "task_types": [1, 2, 3, 4, 5, 6]},
        "dataset": {
            "data_path": str(root / "train"),
            "eval_id_data_path": str(root / "valid_seen"),
            "eval_ood_data_path": str(root / "valid_unseen"),
            "num_train_games": -1,
            "num_eval_games": -1,
        },
    }
    for split, name in (
        ("train", "train"),
        ("valid_seen", "eval_in_distribution"),
        ("valid_unseen", "eval_out_of_distribution"),
    ):
        env = stock.AlfredTWEnv(config, train_eval=name)
        assert sorted(env.game_files) == sorted(map(str, games[split]))
