"""Reading ScienceWorld's actions and answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ray.envs.scienceworld.commands import Command, bare, parse, refusal


@pytest.mark.parametrize(
    ("action", "command"),
    [
        ("look around", Command("look")),
        ("look", Command("look")),
        ("look at door to kitchen", Command("examine", "door to kitchen")),
        ("look in fridge", Command("look_in", "fridge")),
        ("go to art studio", Command("go", "art studio")),
        ("GO TO Kitchen", Command("go", "Kitchen")),
        ("move to kitchen", Command("go", "kitchen")),
        ("move soil in inventory to flower pot 3",
         Command("move", "soil in inventory", "flower pot 3")),
        ("put orange in metal pot", Command("move", "orange", "metal pot")),
        ("pour cup containing blue paint in art studio in jug",
         Command("pour", "cup containing blue paint in art studio", "jug")),
        ("use thermometer in inventory on unknown substance B in inventory",
         Command("use", "thermometer in inventory", "unknown substance B in inventory")),
        ("use lighter", Command("use", "lighter")),
        ("connect black wire terminal 2 to cathode in red light bulb",
         Command("connect", "black wire terminal 2", "cathode in red light bulb")),
        ("take  apple", Command("pick", "apple")),
        ("put down apple", Command("drop", "apple")),
        ("turn off stove", Command("deactivate", "stove")),
        ("wait1", Command("wait")),
        ("3", Command("number", "3")),
        ("reset task", Command("reset")),
        ("move orange", Command("")),
        ("inventory now", Command("")),
        ("dance", Command("")),
        ("", Command("")),
    ],
)  # fmt: skip
def test_parse(action: str, command: Command) -> None:
    assert parse(action) == command


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    parse(text)
    refusal(text)
    bare(text)


@pytest.mark.parametrize(
    ("observation", "code"),
    [
        ("No known action matches that input.", "unknown"),
        ("Unknown action.  Type 'help' for a list of actions.", "nothing"),
        ("Ambiguous request: Please enter the number\n0:\topen door", "ambiguous"),
        ("The door is not open.", "door_closed"),
        ("The door is already open.", "already"),
        ("The fridge isn't open, so you can't see inside.", "closed"),
        ("The chair is not openable.", "cannot_open"),
        ("You can't move something into itself.", "itself"),
        ("You can't pick up a gas directly.", "cannot_move"),
        ("The door is now open.", ""),
        ("You move to the kitchen.", ""),
        ("This room is called the kitchen. In it, you see: \n\ta fridge is not open.", ""),
    ],
)
def test_refusal(observation: str, code: str) -> None:
    assert refusal(observation) == code
