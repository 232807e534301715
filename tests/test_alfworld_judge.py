"""Every row of the judge's table, and what must not be called an error."""

from __future__ import annotations

import random

import pytest
from alfworld_games import generated
from alfworld_texts import HOLDS_EGG, at, did, opened, put, shut, situation, took

from step_ray.envs.alfworld.belief import Belief, parse_action
from step_ray.envs.alfworld.engine import Game
from step_ray.envs.alfworld.env import first_text
from step_ray.envs.alfworld.expert import next_turn
from step_ray.envs.alfworld.judge import judge
from step_ray.envs.base import Judgement

Steps = tuple[tuple[str, str], ...]
EVERYWHERE = lambda place, item: True  # noqa: E731
NOWHERE = lambda place, item: False  # noqa: E731


def judged(task: str, steps: Steps, action: str, valid: bool = True) -> Judgement:
    """The judgement of an action that the world would accept (or would not)."""
    belief = situation(task, *steps)
    assert belief.goal is not None
    admissible = {action} if valid else {"look"}
    return judge(belief, belief.goal, action, admissible, EVERYWHERE)


def cause(judgement: Judgement) -> str:
    return dict(judgement.facts).get("cause", "")


HOLDS_MUG = (at("countertop 1", "a mug 1"), took("mug 1", "countertop 1"))
EGG_SEEN = (at("countertop 1", "a egg 1"),)
OPEN_FRIDGE = (shut("fridge 1"), opened("fridge 1", "nothing"))
HOT_EGG = (*HOLDS_EGG, shut("microwave 1"), did("heat", "egg 1", "microwave 1"))
CLEAN_EGG = (*HOLDS_EGG, at("sinkbasin 1", "nothing"), did("clean", "egg 1", "sinkbasin 1"))
ONE_OF_TWO = (
    *HOLDS_EGG,
    shut("cabinet 1"),
    opened("cabinet 1", "nothing"),
    put("egg 1", "cabinet 1"),
)
SECOND_HELD = (*ONE_OF_TWO, at("countertop 2", "a egg 2"), took("egg 2", "countertop 2"))
LOOKED = (("look", "You are in the middle of a room. Looking ..., you see nothing."),)


@pytest.mark.parametrize(
    ("steps", "action", "why"),
    [
        ((), "dance with me", "no_command"),
        ((), "", "no_command"),
        ((), "go to sofa 1", "no_such_place"),
        (EGG_SEEN, "go to countertop 1", "already_there"),
        (EGG_SEEN, "go to countertop 2", "within_reach"),
        ((), "open fridge 1", "not_there"),
        (OPEN_FRIDGE, "open fridge 1", "already_open"),
        (EGG_SEEN, "open countertop 1", "cannot_open"),
        ((shut("fridge 1"),), "close fridge 1", "already_closed"),
        (EGG_SEEN, "close countertop 1", "cannot_close"),
        ((), "take egg 1 from countertop 1", "not_there"),
        (EGG_SEEN, "take egg 2 from countertop 1", "no_such_thing"),
        (EGG_SEEN, "take egg 1 from countertop 1", "cannot_take"),
        ((shut("fridge 1"),), "take egg 1 from fridge 1", "closed"),
        (HOLDS_EGG, "take mug 1 from countertop 1", "hands_full"),
        (EGG_SEEN, "move egg 1 to countertop 1", "not_held"),
        (HOLDS_EGG, "move mug 1 to countertop 1", "not_held"),
        (HOLDS_EGG, "move egg 1 to fridge 1", "not_there"),
        ((*HOLDS_EGG, shut("fridge 1")), "move egg 1 to fridge 1", "closed"),
        (HOLDS_EGG, "move egg 1 to countertop 1", "does_not_fit"),
        (HOLDS_EGG, "clean egg 1 with sinkbasin 1", "not_there"),
        (HOLDS_EGG, "heat egg 1 with countertop 1", "wrong_tool"),
        (EGG_SEEN, "cool egg 1 with fridge 1", "not_held"),
        ((), "use desklamp 1", "no_such_thing"),
        (
            (at("sidetable 1", "a desklamp 1"), *EGG_SEEN),
            "use desklamp 1",
            "not_there",
        ),
        ((), "slice egg 1 with knife 1", "no_knife"),
        ((), "examine fridge 1", "not_in_sight"),
    ],
)
def test_invalid(steps: Steps, action: str, why: str) -> None:
    found = judged("put a egg in fridge", steps, action, valid=False)
    assert found.is_error
    assert found.kind == "invalid"
    assert cause(found) == why
    assert dict(found.facts)["why"]
    assert not found.irreversible


@pytest.mark.parametrize(
    ("task", "steps", "action", "kind"),
    [
        # loop
        ("put a egg in fridge", (at("countertop 1", "a mug 1"), shut("cabinet 1")),
         "go to countertop 1", "loop"),
        ("put a egg in fridge", (*OPEN_FRIDGE, ("close fridge 1", "You close the fridge 1.")),
         "open fridge 1", "loop"),
        ("put a egg in fridge", LOOKED, "look", "loop"),
        ("put a egg in fridge", (("inventory", "You are not carrying anything."),), "inventory",
         "loop"),
        ("put a egg in fridge", (("examine mug 1", "There's nothing special about mug 1."),),
         "examine mug 1", "loop"),
        ("put a clean egg in fridge", CLEAN_EGG, "clean egg 1 with sinkbasin 1", "loop"),
        ("look at egg under the desklamp",
         (at("sidetable 1", "a desklamp 1"), ("use desklamp 1", "You turn on the desklamp 1.")),
         "use desklamp 1", "loop"),
        # wrong_object
        ("put a egg in fridge", (at("countertop 1", "a mug 1"),), "take mug 1 from countertop 1",
         "wrong_object"),
        ("put a egg in fridge",
         (*HOLDS_MUG, at("sinkbasin 1", "nothing")),
         "clean mug 1 with sinkbasin 1", "wrong_object"),
        ("put a egg in fridge", (at("sidetable 1", "a desklamp 1"),), "use desklamp 1",
         "wrong_object"),
        ("put a egg in fridge", (at("countertop 1", "a knife 1, and a bread 1"),),
         "slice bread 1 with knife 1", "wrong_object"),
        # misplaced
        ("put a egg in fridge", HOLDS_EGG, "move egg 1 to countertop 1", "misplaced"),
        ("put a clean egg in fridge", (*HOLDS_EGG, *OPEN_FRIDGE), "move egg 1 to fridge 1",
         "misplaced"),
        ("look at egg under the desklamp", HOLDS_EGG, "move egg 1 to countertop 1", "misplaced"),
        ("put two egg in cabinet",
         (*SECOND_HELD, shut("cabinet 2"), opened("cabinet 2", "nothing")),
         "move egg 2 to cabinet 2", "misplaced"),
        # undo
        ("put two egg in cabinet", ONE_OF_TWO, "take egg 1 from cabinet 1", "undo"),
        ("put a hot egg in fridge", (*HOT_EGG, shut("fridge 1")),
         "cool egg 1 with fridge 1", "undo"),
        ("put a cool egg in fridge", (*HOLDS_EGG, shut("microwave 1")),
         "heat egg 1 with microwave 1", "undo"),
        ("put a egg in fridge", (*HOLDS_EGG, *OPEN_FRIDGE), "close fridge 1", "undo"),
        ("put a egg in sidetable", (shut("fridge 1"), opened("fridge 1", "a egg 1")),
         "close fridge 1", "undo"),
        # detour
        ("put a egg in fridge", EGG_SEEN, "go to sinkbasin 1", "detour"),
        ("put a egg in fridge", (*EGG_SEEN, shut("cabinet 1")), "open cabinet 1", "detour"),
        ("put a egg in fridge", HOLDS_EGG, "go to countertop 2", "detour"),
        ("put a clean egg in fridge", HOLDS_EGG, "go to fridge 1", "detour"),
        ("put a egg in fridge", (*HOLDS_EGG, at("sinkbasin 1", "nothing")),
         "clean egg 1 with sinkbasin 1", "detour"),
        ("look at egg under the desklamp", (at("sidetable 1", "a desklamp 1"), *HOLDS_EGG),
         "go to cabinet 1", "detour"),
        ("put two egg in cabinet", SECOND_HELD, "go to cabinet 2", "detour"),
    ],
)  # fmt: skip
def test_errors(task: str, steps: Steps, action: str, kind: str) -> None:
    found = judged(task, steps, action)
    assert (found.is_error, found.kind) == (True, kind)
    facts = dict(found.facts)
    assert facts["why"]
    assert not facts["why"].endswith(".")
    assert facts["do"] == (action if facts["did"] else "")
    assert not found.irreversible


@pytest.mark.parametrize(
    ("task", "steps", "action"),
    [
        # any unseen receptacle while searching, plausible or not, and opening it
        ("put a egg in fridge", (), "go to cabinet 1"),
        ("put a egg in fridge", (), "go to fridge 1"),
        ("put a egg in fridge", (at("countertop 1", "a mug 1"),), "go to sidetable 1"),
        ("put a egg in fridge", (shut("cabinet 1"),), "open cabinet 1"),
        ("put a egg in fridge", (shut("cabinet 1"),), "go to countertop 1"),  # left closed
        ("put two egg in cabinet", ONE_OF_TWO, "go to cabinet 2"),
        # the first look, inventory and examine, and again after a change
        ("put a egg in fridge", (), "look"),
        ("put a egg in fridge", (), "inventory"),
        ("put a egg in fridge", EGG_SEEN, "examine countertop 1"),
        ("put a egg in fridge", (*LOOKED, *EGG_SEEN), "look"),
        # another instance of what is needed
        ("put a egg in fridge", (at("countertop 1", "a egg 2, and a egg 1"),),
         "take egg 2 from countertop 1"),
        ("put a egg in fridge", (at("countertop 1", "a egg 1"), at("countertop 2", "a egg 2")),
         "go to countertop 1"),
        ("put a egg in cabinet", HOLDS_EGG, "go to cabinet 1"),
        ("put a egg in cabinet", HOLDS_EGG, "go to cabinet 2"),
        ("put a egg in countertop", (*HOLDS_EGG, at("countertop 2", "nothing")),
         "move egg 1 to countertop 2"),
        # taking what is in the target, but not as it should be
        ("put a clean egg in countertop", EGG_SEEN, "take egg 1 from countertop 1"),
        # putting down what is not needed, anywhere, and going somewhere for that
        ("put a egg in fridge",
         (*HOLDS_MUG, at("sidetable 1", "nothing")),
         "move mug 1 to sidetable 1"),
        ("put a egg in fridge", HOLDS_MUG,
         "go to sidetable 1"),
        # opening the appliance, closing what is not needed
        ("put a hot egg in fridge", (*HOLDS_EGG, shut("microwave 1")), "open microwave 1"),
        ("put a egg in sidetable", OPEN_FRIDGE, "close fridge 1"),
        # light before object
        ("look at egg under the desklamp", (at("sidetable 1", "a desklamp 1"),), "use desklamp 1"),
        # progress
        ("put a hot egg in sidetable", HOT_EGG, "go to sidetable 1"),
        ("put a cool egg in sidetable", (*HOT_EGG, shut("fridge 1")), "cool egg 1 with fridge 1"),
    ],
)  # fmt: skip
def test_no_errors(task: str, steps: Steps, action: str) -> None:
    assert judged(task, steps, action) == Judgement(False)


def test_leaving_the_same_closed_place_again_and_again_is_a_loop() -> None:
    steps = (shut("cabinet 1"), shut("cabinet 2"), shut("fridge 1"))
    assert not judged("put a egg in fridge", steps[:2], "go to fridge 1").is_error
    again = judged("put a egg in fridge", (*steps, *LOOKED), "go to fridge 1")
    assert again.kind in ("", "loop")
    back = judged("put a egg in fridge", (*steps, shut("cabinet 1")), "go to cabinet 2")
    assert not back.is_error, "the fridge was new in between"
    circling = (*steps, shut("cabinet 1"), shut("cabinet 2"))
    assert judged("put a egg in fridge", circling, "go to cabinet 1").kind == "loop"


def test_taking_what_can_never_be_put_down_is_irreversible() -> None:
    belief = situation("put a egg in fridge", at("countertop 1", "a statue 1, and a egg 1"))
    assert belief.goal is not None
    take = "take statue 1 from countertop 1"
    assert judge(belief, belief.goal, take, {take}, NOWHERE).irreversible
    assert not judge(belief, belief.goal, take, {take}, EVERYWHERE).irreversible


def walk(game: Game, seed: int) -> None:
    """Judges everything that is admissible along a half-random game."""
    rng = random.Random(seed)
    state = game.initial()
    belief = Belief.from_reset(first_text(game), game.dialect)
    for _ in range(25):
        admissible = state.admissible()
        before = belief.copy()
        _, expert = next_turn(belief, game.goal, admissible, state.can_contain)
        for action in [*admissible, "dance", "go to fridge 9", "take egg 1 from fridge 1"]:
            found = judge(belief, game.goal, action, admissible, state.can_contain)
            assert (found.kind == "invalid") == (action not in admissible)
            assert found.is_error == bool(found.kind)
            assert action != expert or not found.is_error
            if found.irreversible:
                assert parse_action(action).verb == "take"
        assert belief == before, "judging changes nothing"
        action = expert if rng.random() < 0.5 else rng.choice(admissible)
        text, _ = state.step(action)
        belief.update(action, text)
        if state.won():
            return


def test_the_experts_turn_is_never_an_error_and_invalid_means_not_admissible() -> None:
    for number, game in enumerate(generated(5, seed=2)):
        walk(game, number)
