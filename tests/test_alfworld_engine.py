"""The native ALFWorld engine against recorded transcripts, its own invariants and damaged files."""

from __future__ import annotations

import hashlib
import json
import lzma
import pickle
import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from alfworld_play import draw, odd_start, solution, spoil
from hypothesis import given, settings
from hypothesis import strategies as st

from step_ray.envs.alfworld.engine import (
    CorruptGame,
    Game,
    Goal,
    State,
    UnknownDomain,
    UnsolvableGame,
)
from step_ray.envs.alfworld.world import human_names

GOLDEN = Path(__file__).parent / "golden" / "alfworld" / "transcripts.json.xz"
CONTENT: Mapping[str, Any] = json.loads(lzma.decompress(GOLDEN.read_bytes()))
RECORDED: Mapping[str, Mapping[str, Any]] = {game["name"]: game for game in CONTENT["games"]}


def data_of(name: str) -> dict[str, Any]:
    """The contents of the game file that a transcript was recorded with."""
    entry = RECORDED[name]
    grammar = CONTENT["grammars"][entry["grammar"]]
    return {
        "pddl_domain": CONTENT["domains"][entry["domain"]],
        "grammar": grammar.replace("is to: @", f"is to: {entry['sentence']}"),
        "pddl_problem": entry["problem"],
        "solvable": True,
    }


@cache
def game_of(name: str) -> Game:
    entry = RECORDED[name]
    random.seed(entry["shuffle"])
    return Game.from_dict(data_of(name), name, shuffle=entry["shuffle"] is not None)


def digest(admissible: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(admissible).encode()).hexdigest()[:8]


def walk(state: State, rng: random.Random, steps: int) -> State:
    for _ in range(steps):
        state.step(draw(state.admissible(), rng))
    return state


# --- the transcripts ------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDED)
def test_plays_as_recorded(name: str) -> None:
    entry, game = RECORDED[name], game_of(name)
    assert game.task_sentence == entry["sentence"]
    assert game.reset_text() == entry["reset"]
    state = game.initial()
    assert digest(state.admissible()) == entry["start"]
    for i, (command, text, won, admissible) in enumerate(entry["steps"]):
        before, copy = state.key(), state.fork()
        observed, valid = state.step(command)
        assert observed == text, (i, command)
        assert state.won() == won, (i, command)
        assert digest(state.admissible()) == admissible, (i, command, state.admissible())
        assert valid == (text != "Nothing happens.")
        assert valid or state.key() == before
        assert copy.key() == before, "a step changed a fork"
        copy.step(command)
        assert copy.key() == state.key()


# --- invariants -----------------------------------------------------------------------------


def every_command(game: Game) -> set[str]:
    """All commands that the names of a game could make, valid or not."""
    things, places = game.objects, game.receptacles
    commands = {"look", "inventory", "help"}
    for place in places:
        commands |= {f"{verb} {place}" for verb in ("go to", "open", "close", "examine", "use")}
    for thing in things:
        commands |= {f"examine {thing}", f"use {thing}", f"open {thing}", f"go to {thing}"}
        commands |= {f"slice {other} with {thing}" for other in things}
        for place in places:
            commands |= {f"{verb} {thing} with {place}" for verb in ("clean", "heat", "cool")}
            commands |= {f"take {thing} from {place}", f"move {thing} to {place}"}
            commands.add(f"put {thing} in/on {place}")
    return commands


@pytest.mark.parametrize("name", RECORDED)
def test_admissible_is_exactly_what_works(name: str) -> None:
    game = game_of(name)
    state, rng = game.initial(), random.Random(name)
    for _ in range(3):
        key, admissible = state.key(), state.admissible()
        assert admissible == sorted(set(admissible))
        works = set()
        for command in every_command(game):
            trial = state.fork()
            text, valid = trial.step(command)
            assert valid == (text != "Nothing happens.")
            if valid:
                works.add(command)
            else:
                assert trial.key() == key, command
        assert works == set(admissible)
        assert state.key() == key, "trying commands on forks changed the state"
        walk(state, rng, 12)


def naive_won(state: State) -> bool:
    """The goal, read literally on the structured view."""
    game, goal = state.game, state.game.goal
    wanted = [o for o in game.objects if game.type_of[o] == goal.object]
    if goal.lamp is not None:
        lit = any(
            game.type_of[o] == goal.lamp and state.toggled(o)
            for place in state.here
            for o in state.contents(place)
        )
        return lit and state.holding in wanted
    world = game.world
    done, able = {
        "clean": (state.is_clean, world.cleanable),
        "hot": (state.is_hot, world.heatable),
        "cool": (state.is_cool, world.coolable),
        None: (lambda _: True, -1),
    }[goal.state]
    ready = {o for o in wanted if done(o) and able >> world.object_index[o] & 1}
    return any(
        len(ready & set(state.contents(place))) >= goal.count
        for place in game.receptacles
        if game.type_of[place] == goal.target
    )


@pytest.mark.parametrize("name", [name for name in RECORDED if not name.endswith("odd")])
def test_a_plain_solution_wins(name: str) -> None:
    state, follow = game_of(name).initial(), game_of(name).initial()
    assert not state.won()
    for command in solution(state):
        assert follow.won() == naive_won(follow)
        assert follow.step(command)[1]
    assert follow.key() == state.key()
    assert state.won()
    assert naive_won(state)
    rng = random.Random(5)
    for _ in range(40):  # play goes on
        walk(state, rng, 1)
        assert state.won() == naive_won(state)


@pytest.mark.parametrize("name", RECORDED)
def test_structured_view_agrees_with_the_texts(name: str) -> None:
    game = game_of(name)
    state = walk(game.initial(), random.Random(3), 40)
    held = state.holding
    assert state.step("inventory")[0] == (
        f"You are carrying: a {held}." if held else "You are not carrying anything."
    )
    assert state.location == (state.here[0] if state.here else None)
    for place in game.receptacles:
        assert all(place in state.receptacles_of(o) for o in state.contents(place))
        if place in state.here:
            text = state.step(f"examine {place}")[0]
            assert ("is closed" in text) == (state.is_open(place) is False)
            if state.is_open(place) is not False:
                assert all(f"a {o}" in text for o in state.contents(place))
    with pytest.raises(KeyError):
        state.contents("cabinet 99")


def test_what_fits_can_be_put() -> None:
    game = game_of("2-pick_clean_then_place_in_recep")
    state = game.initial()
    kinds = {state.can_contain(place, o) for place in game.receptacles for o in game.objects}
    assert kinds == {True, False}
    assert state.can_contain("garbagecan 1", "soapbar 1")
    assert not state.can_contain("sinkbasin 1", "candle 1")


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                "go",
                "to",
                "take",
                "from",
                "put",
                "in/on",
                "with",
                "use",
                "\n",
                "cabinet 1",
                "1",
                "",
                "\x00",
            ]
        )
    ).map(" ".join)
)
def test_any_text_is_a_command(command: str) -> None:
    state = game_of("2-pick_clean_then_place_in_recep").initial()
    text, valid = state.step(command)
    assert valid or text == "Nothing happens."


def test_spoiled_commands_change_nothing() -> None:
    state, rng = game_of("5-pick_two_obj_and_place").initial(), random.Random(0)
    for _ in range(300):
        command = spoil(rng.choice(state.admissible()), rng)
        before = state.key()
        valid = state.fork().step(command)[1]
        assert valid == (command.strip() in state.admissible())
        if not valid:
            state.step(command)
            assert state.key() == before
        else:
            state.step(command)


def test_shuffle_permutes_numbers_within_base_names() -> None:
    data = data_of("4-pick_cool_then_place_in_recep")
    plain = Game.from_dict(data)
    random.seed(11)
    one = Game.from_dict(data, shuffle=True)
    random.seed(11)
    same = Game.from_dict(data, shuffle=True)
    random.seed(12)
    other = Game.from_dict(data, shuffle=True)
    assert one.objects == same.objects
    assert one.receptacles == same.receptacles
    assert one.objects != other.objects
    assert sorted(one.objects) == sorted(plain.objects)
    assert sorted(one.receptacles) == sorted(plain.receptacles)


def portable_lamp() -> tuple[dict[str, Any], list[str]]:
    """A game whose lamp can be carried, as none can in real files, and how to look at it."""
    data = data_of("1-look_at_obj_in_light")
    lamp = re.search(r"\(toggleable (\S+)\)", data["pddl_problem"])
    assert lamp
    data["pddl_problem"] = data["pddl_problem"].replace(
        lamp[0], f"{lamp[0]} (pickupable {lamp[1]})"
    )
    state = Game.from_dict(data).initial()
    (place,) = state.receptacles_of("desklamp 1")
    use, take = "use desklamp 1", f"take desklamp 1 from {place}"
    return data, [f"go to {place}", use, use, take, "examine desklamp 1", use]


def test_a_lamp_once_used_stays_on() -> None:
    data, commands = portable_lamp()
    state = Game.from_dict(data).initial()
    texts = [state.step(command)[0] for command in commands]
    assert texts[1] == texts[2] == "You turn on the desklamp 1."
    assert texts[4:] == ["This desklamp 1 is on.", "Nothing happens."]


def test_names() -> None:
    ids = [
        "mug_bar__plus_01_dot_00",
        "mug_bar__minus_01_dot_00",
        "sink_bar__plus_01_bar_sinkbasin",
        "bathtub_bar__plus_01_bar_sinkbasin",
        "egg_bar__plus_01_bar_eggcracked_0",
        "egg_bar__plus_01",
        "mugtype",
    ]
    assert human_names(ids) == {
        "mug_bar__plus_01_dot_00": "mug 1",
        "mug_bar__minus_01_dot_00": "mug 2",
        "sink_bar__plus_01_bar_sinkbasin": "sinkbasin 1",
        "bathtub_bar__plus_01_bar_sinkbasin": "bathtubbasin 1",
        "egg_bar__plus_01_bar_eggcracked_0": "egg 1",
        "egg_bar__plus_01": "egg 2",
    }


def test_goals_of_all_task_types() -> None:
    goals = [game_of(name).goal for name in RECORDED if int(name.split("-")[0]) < 6]
    assert [(g.task_type, g.count, g.state, bool(g.lamp), bool(g.target)) for g in goals] == [
        ("pick_and_place_simple", 1, None, False, True),
        ("look_at_obj_in_light", 1, None, True, False),
        ("pick_clean_then_place_in_recep", 1, "clean", False, True),
        ("pick_heat_then_place_in_recep", 1, "hot", False, True),
        ("pick_cool_then_place_in_recep", 1, "cool", False, True),
        ("pick_two_obj_and_place", 2, None, False, True),
    ]
    for name in RECORDED:
        game = game_of(name)
        assert isinstance(game.goal, Goal)
        assert game.goal.object in game.type_of.values()
        assert game.dialect == ("move" if RECORDED[name]["grammar"] == "move" else "put")


def test_games_and_states_travel_between_processes() -> None:
    state = walk(game_of("8-pick_clean_then_place_in_recep").initial(), random.Random(1), 20)
    copy = pickle.loads(pickle.dumps(state))
    assert copy.key() == state.key()
    assert copy.admissible() == state.admissible()
    assert copy.game.data_hash == state.game.data_hash


# --- files that cannot be played ------------------------------------------------------------


@pytest.fixture
def data() -> dict[str, Any]:
    return data_of("2-pick_clean_then_place_in_recep")


def test_load_reads_a_file(tmp_path: Path, data: dict[str, Any]) -> None:
    path = tmp_path / "game.tw-pddl"
    path.write_text(json.dumps(data))
    game = Game.load(path)
    assert game.receptacles == Game.from_dict(data).receptacles
    text = data["pddl_domain"] + data["grammar"] + data["pddl_problem"]
    assert game.data_hash == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "content", [b"", b'{"pddl_domain": ', b"[]", b"\xff\xfe\x00", b"{}", b'{"grammar": 3}']
)
def test_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "game.tw-pddl"
    path.write_bytes(content)
    with pytest.raises(CorruptGame, match=r"game\.tw-pddl: .*anew"):
        Game.load(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(:init", "(:int", "lacks :objects, :init and :goal"),
        ("(:goal", "(:gaol", "lacks :objects, :init and :goal"),
        ("(atLocation agent1", "(atLocation agent2", "undeclared names: agent2"),
        ("(atLocation agent1", "(strange agent1", "unknown to ALFWorld: \\(strange"),
        (" - location", " - lokation", "unknown kind: \\['lokation'\\]"),
        (" - location", " location", "name - kind"),
        ("(:init", "(:init (holds agent1 agent1) ", "as a object, which it is not"),
    ],
)
def test_contradictory_problem(data: dict[str, Any], old: str, new: str, message: str) -> None:
    assert old in data["pddl_problem"]
    data["pddl_problem"] = data["pddl_problem"].replace(old, new)
    with pytest.raises(CorruptGame, match=message):
        Game.from_dict(data, "x.tw-pddl")


def test_cut_off_problem(data: dict[str, Any]) -> None:
    data["pddl_problem"] = data["pddl_problem"].rstrip()[:-20]
    with pytest.raises(CorruptGame, match=r"x\.tw-pddl: .*brackets"):
        Game.from_dict(data, "x.tw-pddl")


@pytest.mark.parametrize("key", ["pddl_domain", "grammar"])
def test_other_rules_are_refused(data: dict[str, Any], key: str) -> None:
    changed = {**data, key: data[key].replace("look", "watch")}
    with pytest.raises(UnknownDomain, match=r"x\.tw-pddl: .*stock engine"):
        Game.from_dict(changed, "x.tw-pddl")


def test_comments_and_layout_of_the_domain_do_not_matter(data: dict[str, Any]) -> None:
    data["pddl_domain"] = "; mine\n" + data["pddl_domain"].replace("\n", "\r\n  ")
    data["pddl_problem"] = "; mine ((\n" + data["pddl_problem"]
    assert Game.from_dict(data).initial().admissible()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(and", "(or"),
        ("(exists", "(forall"),
        ("(isClean ?o)", "(not (isClean ?o))"),
        ("(isClean ?o)", "(isSliced ?o)"),
        ("(cleanable ?o)", ""),
        ("(inReceptacle ?o ?r)", "(inReceptacle ?o ?r) (isHot ?o)"),
    ],
)
def test_other_goals_are_refused(data: dict[str, Any], old: str, new: str) -> None:
    before, goal, after = data["pddl_problem"].partition("(:goal")
    assert old in after
    data["pddl_problem"] = before + goal + after.replace(old, new, 1)
    with pytest.raises(UnknownDomain, match="six task types"):
        Game.from_dict(data)


def impossible(data: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The game with its goal out of reach."""
    before, mark, goal = str(data["pddl_problem"]).partition("(:goal")
    game = Game.from_dict(data)
    words = {w.lower(): w for w in before.replace("(", " ").replace(")", " ").split()}
    if kind == "no such object":
        old, new = words[f"{game.goal.object}type"], "GhostType"
        before = before.replace("(:objects", "(:objects\nGhostType - otype\n")
    elif kind == "no such receptacle":
        old, new = words[f"{game.goal.target}type"], "GhostType"
        before = before.replace("(:objects", "(:objects\nGhostType - rtype\n")
    else:  # the receptacle may not hold it
        pair = f"{words[f'{game.goal.target}type']} {words[f'{game.goal.object}type']}"
        old = new = "none"
        before = before.replace(f"(canContain {pair})", "")
    return {**data, "pddl_problem": before + mark + goal.replace(old, new)}


@pytest.mark.parametrize("kind", ["no such object", "no such receptacle", "does not fit"])
def test_unsolvable_game(data: dict[str, Any], kind: str) -> None:
    with pytest.raises(UnsolvableGame, match=r"x\.tw-pddl: .*out of reach"):
        Game.from_dict(impossible(data, kind), "x.tw-pddl")


def test_game_marked_unsolvable(data: dict[str, Any]) -> None:
    with pytest.raises(UnsolvableGame, match=r"x\.tw-pddl: .*solvable"):
        Game.from_dict({**data, "solvable": False}, "x.tw-pddl")


def test_odd_starts_play() -> None:
    """What no real file has must at least not break."""
    rng = random.Random(9)
    for name in RECORDED:
        if name.endswith("odd"):
            continue
        try:
            game = Game.from_dict(odd_start(data_of(name), rng), name)
        except UnsolvableGame:
            continue
        walk(game.initial(), rng, 60)
