"""What an agent can know, read from texts alone."""

from __future__ import annotations

import pytest

from step_ray.envs.alfworld.belief import Belief, Command, parse_action, parse_goal
from step_ray.envs.alfworld.engine import Goal

RESET = (
    "You are in the middle of a room. Looking quickly around you, you see a cabinet 2, "
    "a cabinet 1, a countertop 1, a fridge 1, and a sinkbasin 1.\n\n"
    "Your task is to: put a clean egg in fridge."
)


def read(*steps: tuple[str, str], dialect: str = "move") -> Belief:
    belief = Belief.from_reset(RESET, dialect)
    for action, observation in steps:
        belief.update(action, observation)
    return belief


def test_reset_text_gives_receptacles_in_listing_order_and_the_task() -> None:
    belief = read()
    names = "cabinet 2, cabinet 1, countertop 1, fridge 1, sinkbasin 1"
    assert ", ".join(belief.places) == names
    assert belief.task == "put a clean egg in fridge"
    assert belief.goal == Goal("pick_clean_then_place_in_recep", "egg", "fridge", 1, None, "clean")
    assert not belief.here
    assert not any(place.visited for place in belief.places.values())


def test_the_welcome_paragraph_changes_nothing() -> None:
    welcome = "-= Welcome to TextWorld, ALFRED! =-\n\n" + RESET
    assert Belief.from_reset(welcome) == Belief.from_reset(RESET)


@pytest.mark.parametrize(
    ("sentence", "goal"),
    [
        ("put a mug in desk.", ("pick_and_place_simple", "mug", "desk", 1, None, None)),
        ("put some mug on desk.", ("pick_and_place_simple", "mug", "desk", 1, None, None)),
        ("put two cd in safe.", ("pick_two_obj_and_place", "cd", "safe", 2, None, None)),
        (
            "find two cd and put them in safe.",
            ("pick_two_obj_and_place", "cd", "safe", 2, None, None),
        ),
        (
            "look at box under the desklamp.",
            ("look_at_obj_in_light", "box", None, 1, "desklamp", None),
        ),
        (
            "examine the box with the desklamp.",
            ("look_at_obj_in_light", "box", None, 1, "desklamp", None),
        ),
        (
            "heat some egg and put it in diningtable.",
            ("pick_heat_then_place_in_recep", "egg", "diningtable", 1, None, "hot"),
        ),
        (
            "put a cool egg in diningtable.",
            ("pick_cool_then_place_in_recep", "egg", "diningtable", 1, None, "cool"),
        ),
    ],
)
def test_goals_are_read_from_the_sentence(sentence: str, goal: tuple[object, ...]) -> None:
    assert parse_goal(sentence) == Goal(*goal)  # type: ignore[arg-type]


def test_an_unknown_sentence_has_no_goal() -> None:
    assert parse_goal("slice the bread.") is None


@pytest.mark.parametrize("label", ["countertop 1", "loc 7"])
def test_arriving_in_either_dialect(label: str) -> None:
    seen = "On the countertop 1, you see a egg 1, and a mug 2."
    belief = read(("go to countertop 1", f"You arrive at {label}. {seen}"))
    assert belief.here == "countertop 1"
    assert belief.places["countertop 1"].contents == ("egg 1", "mug 2")
    assert belief.located == {"egg 1": "countertop 1", "mug 2": "countertop 1"}
    assert list(belief.known("egg")) == [("egg 1", "countertop 1")]


def test_opening_and_closing() -> None:
    belief = read(("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed."))
    assert belief.places["fridge 1"].closed is True
    assert not belief.places["fridge 1"].seen
    belief.update(
        "open fridge 1", "You open the fridge 1. The fridge 1 is open. In it, you see nothing."
    )
    assert belief.places["fridge 1"].closed is False
    assert belief.places["fridge 1"].seen
    belief.update("close fridge 1", "You close the fridge 1.")
    assert belief.places["fridge 1"].closed is True
    assert belief.places["fridge 1"].seen


def holding_the_egg() -> Belief:
    return read(
        ("go to countertop 1", "You arrive at loc 3. On the countertop 1, you see a egg 1."),
        ("take egg 1 from countertop 1", "You pick up the egg 1 from the countertop 1."),
    )


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ("put egg 1 in/on countertop 1", "You put the egg 1 in/on the countertop 1."),
        ("move egg 1 to countertop 1", "You move the egg 1 to the countertop 1."),
    ],
)
def test_taking_and_putting(action: str, text: str) -> None:
    belief = holding_the_egg()
    assert belief.held == "egg 1"
    assert belief.origin == {"egg 1": "countertop 1"}
    assert belief.places["countertop 1"].contents == ()
    assert not belief.located
    belief.update(action, text)
    assert not belief.held
    assert belief.located == {"egg 1": "countertop 1"}


def test_states_of_things_and_hot_and_cool_exclude_each_other() -> None:
    belief = holding_the_egg()
    belief.update("clean egg 1 with sinkbasin 1", "You clean the egg 1 using the sinkbasin 1.")
    belief.update("cool egg 1 with fridge 1", "You cool the egg 1 using the fridge 1.")
    assert belief.has_state("egg 1", "clean")
    assert belief.has_state("egg 1", "cool")
    belief.update("heat egg 1 with microwave 1", "You heat the egg 1 using the microwave 1.")
    assert belief.has_state("egg 1", "hot")
    assert not belief.has_state("egg 1", "cool")
    assert belief.has_state("egg 1", None)


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("This is a cold egg 1.", {"cool"}),
        ("This is a hot and clean egg 1.", {"hot", "clean"}),
        ("This is a cool and clean sliced egg 1.", {"cool", "clean"}),
        ("There's nothing special about egg 1.", set()),
    ],
)
def test_examining_tells_states(text: str, states: set[str]) -> None:
    belief = holding_the_egg()
    belief.update("examine egg 1", text)
    assert {s for s in ("clean", "hot", "cool") if belief.has_state("egg 1", s)} == states


def test_inventory_corrects_the_hand() -> None:
    belief = read(("inventory", "You are carrying: a egg 1."))
    assert belief.held == "egg 1"
    belief.update("inventory", "You are not carrying anything.")
    assert not belief.held


def test_look_tells_what_is_within_reach() -> None:
    belief = read(
        ("go to cabinet 1", "You arrive at loc 3. The cabinet 1 is closed."),
        ("look", "You are facing the cabinet 2, and cabinet 1. Next to it, you see nothing."),
    )
    assert belief.here == "cabinet 1"
    assert belief.reach == {"cabinet 1", "cabinet 2"}


def test_a_vain_walk_tells_what_is_within_reach() -> None:
    belief = read(
        ("go to cabinet 1", "You arrive at cabinet 1. The cabinet 1 is closed."),
        ("go to cabinet 2", "Nothing happens."),
    )
    assert belief.reach == {"cabinet 1", "cabinet 2"}
    belief.update("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.")
    assert belief.reach == {"fridge 1"}
    belief.update("go to cabinet 2", "You arrive at cabinet 2. The cabinet 2 is closed.")
    assert belief.reach == {"cabinet 1", "cabinet 2"}


def test_the_same_location_label_means_the_same_spot() -> None:
    belief = read(
        ("go to cabinet 1", "You arrive at loc 3. The cabinet 1 is closed."),
        ("go to fridge 1", "You arrive at loc 4. The fridge 1 is closed."),
        ("go to cabinet 2", "You arrive at loc 3. The cabinet 2 is closed."),
    )
    assert belief.reach == {"cabinet 1", "cabinet 2"}


def test_a_thing_listed_twice_stays_where_it_was_put() -> None:
    """A few real objects start in two receptacles and stay listed in the second when taken."""
    listed = "On the countertop 1, you see a egg 1."
    belief = holding_the_egg()
    belief.update("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.")
    belief.update("go to countertop 1", f"You arrive at countertop 1. {listed}")
    assert not belief.located, "it is in the hand"
    belief.update("move egg 1 to sinkbasin 1", "You move the egg 1 to the sinkbasin 1.")
    belief.update("go to countertop 1", f"You arrive at countertop 1. {listed}")
    assert belief.located["egg 1"] == "sinkbasin 1"


def test_idle_actions_are_forgotten_when_something_changes() -> None:
    belief = read(("look", "You are in the middle of a room. Looking ..., you see nothing."))
    assert "look" in belief.idle
    belief.update("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.")
    assert "look" not in belief.idle


def test_an_action_that_should_have_worked_is_remembered_as_refused() -> None:
    belief = holding_the_egg()
    belief.update("move egg 1 to countertop 1", "Nothing happens.")
    assert "move egg 1 to countertop 1" in belief.refused
    belief.update("move egg 1 to fridge 1", "Nothing happens.")
    assert "move egg 1 to fridge 1" not in belief.refused, "the agent was not there"


@pytest.mark.parametrize("text", ["", "xyz", "Nothing happens.", "On the , you see .", "a" * 9999])
def test_any_action_and_text_is_taken(text: str) -> None:
    belief = read()
    for action in ("", text, "take  from ", "go to nowhere 3", "put x in/on y"):
        belief.update(action, text)
    assert list(belief.places) == list(read().places)


def test_a_copy_is_independent() -> None:
    belief = holding_the_egg()
    before = belief.copy()
    twin = belief.copy()
    twin.update("clean egg 1 with sinkbasin 1", "You clean the egg 1 using the sinkbasin 1.")
    twin.update("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.")
    twin.update("move egg 1 to fridge 1", "You move the egg 1 to the fridge 1.")
    assert belief == before
    assert twin != before


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("go to fridge 1", Command("go", "", "fridge 1")),
        ("take egg 1 from fridge 1", Command("take", "egg 1", "fridge 1")),
        ("put egg 1 in/on fridge 1", Command("put", "egg 1", "fridge 1")),
        ("move egg 1 to fridge 1", Command("put", "egg 1", "fridge 1")),
        ("use desklamp 1", Command("use", "desklamp 1", "")),
        (" look ", Command("look")),
        ("dance", Command("")),
        ("", Command("")),
    ],
)
def test_actions_are_parsed(text: str, command: Command) -> None:
    assert parse_action(text) == command
