"""The expert wins from any state, and says what it does."""

from __future__ import annotations

import random
import statistics
from collections.abc import Collection

import pytest
from alfworld_games import generated, official
from alfworld_texts import HOLDS_EGG, at, did, opened, put, shut, situation, took

from step_ray.envs.alfworld.belief import Belief, parse_action
from step_ray.envs.alfworld.engine import Game, State
from step_ray.envs.alfworld.env import first_text
from step_ray.envs.alfworld.expert import next_turn, plan, unexplored
from step_ray.envs.alfworld.games import list_tasks, load_game
from step_ray.envs.alfworld.plausible import may_hold, plausible_places, rank
from step_ray.envs.alfworld.thoughts import preposition

LIMIT = 50


def play(
    game: Game,
    state: State | None = None,
    belief: Belief | None = None,
    helped: bool = True,
    limit: int = LIMIT,
) -> tuple[bool, list[tuple[str, str]]]:
    """Lets the expert play: whether it won, and its turns."""
    state = state or game.initial()
    belief = belief or Belief.from_reset(first_text(game), game.dialect)
    turns = []
    for _ in range(limit):
        admissible: Collection[str] | None = frozenset(state.admissible()) if helped else None
        thought, action = next_turn(
            belief, game.goal, admissible, state.can_contain if helped else None
        )
        turns.append((thought, action))
        text, valid = state.step(action)
        belief.update(action, text)
        assert valid or not helped, f"the expert wrote {action!r}, which is impossible"
        if state.won():
            return True, turns
    return False, turns


def names(action: str) -> set[str]:
    command = parse_action(action)
    return {name for name in (command.item, command.place) if name}


def test_wins_generated_games_of_every_type() -> None:
    results = [play(game) for game in generated(15)]
    assert all(won for won, _ in results)
    assert statistics.mean(len(turns) for _, turns in results) < 12


def test_needs_no_privileged_help() -> None:
    results = [play(game, helped=False)[0] for game in generated(15)]
    assert all(results)


def test_is_reproducible_and_varied() -> None:
    runs = [[play(game)[1] for game in generated(5)] for _ in range(2)]
    assert runs[0] == runs[1]
    thoughts = [thought for turns in runs[0] for thought, _ in turns]
    assert len(set(thoughts)) > 0.8 * len(thoughts)


def test_thoughts_are_short_and_name_what_the_action_names() -> None:
    for game in generated(15):
        for thought, action in play(game)[1]:
            assert "\n" not in thought
            assert 8 <= len(thought.split()) <= 26, thought
            assert all(name in thought for name in names(action)), (thought, action)
            assert "{" not in thought
            assert ".." not in thought
            assert ",." not in thought


def test_wins_from_any_state() -> None:
    """Also after a stretch of random play, sensible or not, with wrong things in hand."""
    for number, game in enumerate(generated(15, seed=1)):
        rng = random.Random(number)
        state = game.initial()
        belief = Belief.from_reset(first_text(game), game.dialect)
        for _ in range(rng.choice((3, 10, 30))):
            action = rng.choice([a for a in state.admissible() if not dead_end(state, a)])
            ahead = state.fork()
            text, _ = ahead.step(action)
            if ahead.won():
                break
            state = ahead
            belief.update(action, text)
        won, turns = play(game, state, belief)
        assert won, (first_text(game), turns)


def dead_end(state: State, action: str) -> bool:
    """Whether the action takes a thing that can be put down nowhere."""
    command = parse_action(action)
    return command.verb == "take" and not any(
        state.can_contain(place, command.item) for place in state.game.receptacles
    )


# -- single situations, by texts alone -------------------------------------------------------------


def action_in(belief: Belief) -> str:
    assert belief.goal is not None
    return plan(belief, belief.goal).action


@pytest.mark.parametrize(
    ("task", "steps", "action"),
    [
        # searching: the plausible type first, in listing order, and nothing twice
        ("put a egg in fridge", (), "go to countertop 2"),
        ("put a egg in fridge", (at("countertop 2", "nothing"),), "go to countertop 1"),
        ("put a egg in fridge", (shut("microwave 1"),), "open microwave 1"),
        # what was seen is remembered
        (
            "put a egg in fridge",
            (at("countertop 1", "a egg 1"), at("sinkbasin 1", "nothing")),
            "go to countertop 1",
        ),
        ("put a egg in fridge", (at("countertop 1", "a egg 1"),), "take egg 1 from countertop 1"),
        (
            "put a egg in sidetable",
            (
                shut("fridge 1"),
                opened("fridge 1", "a egg 1"),
                ("close fridge 1", "You close the fridge 1."),
            ),
            "open fridge 1",
        ),
        # delivering
        ("put a egg in fridge", HOLDS_EGG, "go to fridge 1"),
        ("put a egg in fridge", (*HOLDS_EGG, shut("fridge 1")), "open fridge 1"),
        (
            "put a egg in fridge",
            (*HOLDS_EGG, shut("fridge 1"), opened("fridge 1", "nothing")),
            "move egg 1 to fridge 1",
        ),
        # processing; the appliance may stay shut
        ("put a clean egg in fridge", HOLDS_EGG, "go to sinkbasin 1"),
        (
            "put a clean egg in fridge",
            (*HOLDS_EGG, at("sinkbasin 1", "nothing")),
            "clean egg 1 with sinkbasin 1",
        ),
        (
            "put a hot egg in sidetable",
            (*HOLDS_EGG, shut("microwave 1")),
            "heat egg 1 with microwave 1",
        ),
        # done already, with whatever was done besides
        (
            "put a hot egg in sidetable",
            (*HOLDS_EGG, shut("microwave 1"), did("heat", "egg 1", "microwave 1")),
            "go to sidetable 1",
        ),
        # hot, but should be cool; cooled again, but should be hot
        (
            "put a cool egg in sidetable",
            (*HOLDS_EGG, shut("microwave 1"), did("heat", "egg 1", "microwave 1")),
            "go to fridge 1",
        ),
        (
            "put a hot egg in sidetable",
            (
                *HOLDS_EGG,
                shut("microwave 1"),
                did("heat", "egg 1", "microwave 1"),
                shut("fridge 1"),
                did("cool", "egg 1", "fridge 1"),
            ),
            "go to microwave 1",
        ),
        # in the target, but not clean yet
        (
            "put a clean egg in sidetable",
            (*HOLDS_EGG, at("sidetable 1", "nothing"), put("egg 1", "sidetable 1")),
            "take egg 1 from sidetable 1",
        ),
        # a wrong thing in hand goes back first
        (
            "put a egg in fridge",
            (at("countertop 1", "a mug 1, and a egg 1"), took("mug 1", "countertop 1")),
            "move mug 1 to countertop 1",
        ),
        # two of them: into the same receptacle
        (
            "put two egg in cabinet",
            (
                *HOLDS_EGG,
                shut("cabinet 1"),
                opened("cabinet 1", "nothing"),
                put("egg 1", "cabinet 1"),
            ),
            "go to countertop 2",
        ),
        (
            "put two egg in cabinet",
            (
                *HOLDS_EGG,
                shut("cabinet 1"),
                opened("cabinet 1", "nothing"),
                put("egg 1", "cabinet 1"),
                at("countertop 2", "a egg 2"),
                took("egg 2", "countertop 2"),
            ),
            "go to cabinet 1",
        ),
        # light
        (
            "look at egg under the desklamp",
            (at("sidetable 1", "a desklamp 1"), *HOLDS_EGG),
            "go to sidetable 1",
        ),
        ("look at egg under the desklamp", HOLDS_EGG, "go to sidetable 1"),
        (
            "look at egg under the desklamp",
            (*HOLDS_EGG, at("sidetable 1", "a desklamp 1")),
            "use desklamp 1",
        ),
    ],
)
def test_the_right_action(task: str, steps: tuple[tuple[str, str], ...], action: str) -> None:
    assert action_in(situation(task, *steps)) == action


def test_a_receptacle_within_reach_is_examined_not_walked_to() -> None:
    belief = situation("put a egg in fridge", at("countertop 2", "nothing"))
    assert belief.goal is not None
    assert plan(belief, belief.goal, {"examine countertop 1"}).action == "examine countertop 1"
    belief.update("go to countertop 1", "Nothing happens.")
    assert action_in(belief) == "examine countertop 1"


def test_writes_the_dialect_of_the_game() -> None:
    belief = situation("put a egg in sidetable", *HOLDS_EGG, at("sidetable 1", "nothing"))
    belief.dialect = "put"
    assert action_in(belief) == "put egg 1 in/on sidetable 1"


def test_does_not_insist_on_what_was_refused() -> None:
    belief = situation("put a egg in countertop", at("countertop 1", "a mug 1"))
    belief.update(*took("mug 1", "countertop 1"))
    belief.update("move mug 1 to countertop 1", "Nothing happens.")
    assert action_in(belief) != "move mug 1 to countertop 1"


def test_looks_round_when_nothing_is_left() -> None:
    belief = situation("put a egg in fridge")
    for name in list(belief.places):
        belief.update(*at(name, "nothing"))
    assert belief.goal is not None
    assert not unexplored(belief, belief.goal, "egg")
    thought, action = next_turn(belief, belief.goal)
    assert action == "look"
    assert thought


def test_plausibility_names_every_type_once() -> None:
    for kind in ("egg", "pillow", "never heard of"):
        places = plausible_places(kind)
        assert len(set(places)) == len(places)
        assert rank(kind, "never heard of") == len(places)
    assert may_hold("egg", "fridge")
    assert not may_hold("pillow", "fridge")
    assert preposition("cabinet 3") == "in"
    assert preposition("countertop") == "on"


@pytest.mark.parametrize(("split", "mean"), [("valid_seen", 8), ("valid_unseen", 10)])
def test_wins_official_games(split: str, mean: float) -> None:
    root = official()
    games = [
        load_game(root / split / task.id / "game.tw-pddl") for task in list_tasks(str(root), split)
    ]
    assert len(games) == {"valid_seen": 140, "valid_unseen": 67}[split]
    for helped in (True, False):
        results = [play(game, helped=helped, limit=40) for game in games]
        assert sum(won for won, _ in results) >= 0.98 * len(games)
        assert statistics.mean(len(turns) for _, turns in results) < mean
