"""What is known from texts: rooms, doors, and ways between them."""

from __future__ import annotations

import pytest

from step_ray.envs.scienceworld.transcript import ROOMS, Transcript, neighbours, way

HALLWAY = """This room is called the hallway. In it, you see: \n\tthe agent
You also see:\n\tA door to the greenhouse (that is closed)\n\tA door to the kitchen (that is open)
"""
KITCHEN = "This room is called the kitchen. In it, you see: \n\ta thermometer"


def begun(*turns: tuple[str, str]) -> Transcript:
    now = Transcript.begin(HALLWAY)
    for action, observation in turns:
        now = now.then(action, observation, 0, False)
    return now


def test_every_room_can_be_reached_from_every_other() -> None:
    for start in ROOMS:
        for end in ROOMS:
            rooms = way(start, end)
            assert (not rooms) == (start == end)
            for here, there in zip([start, *rooms], rooms, strict=False):
                assert there in neighbours(here)
                assert here in neighbours(there)


def test_a_route_opens_what_is_not_known_to_be_open() -> None:
    now = begun()
    assert now.route("kitchen", teleport=False) == ["go to kitchen"]
    assert now.route("outside", teleport=True) == ["teleport to outside"]
    assert now.route("hallway", teleport=False) == []
    assert now.route("greenhouse", teleport=False) == [
        "open door to greenhouse",
        "go to greenhouse",
    ]
    opened = begun(("open door to greenhouse", "The door is now open."))
    assert opened.route("greenhouse", teleport=False) == ["go to greenhouse"]
    closed = begun(("close door to kitchen", "The door is now closed."))
    assert closed.route("kitchen", teleport=False) == ["open door to kitchen", "go to kitchen"]


def test_the_room_follows_what_was_done_not_what_was_tried() -> None:
    now = begun(("go to greenhouse", "The door is not open."))
    assert now.room == "hallway"
    now = begun(("go to kitchen", "You move to the kitchen."))
    assert (now.room, now.begun) == ("kitchen", "hallway")
    assert now.visited == {"hallway", "kitchen"}
    assert now.looked == {"hallway"}
    now = now.then("look around", KITCHEN, 5, False)
    assert now.looked == {"hallway", "kitchen"}
    assert (now.score, now.done) == (5, False)
    assert [event.room for event in now.events] == ["hallway", "kitchen"]


@pytest.mark.parametrize(
    ("action", "observation", "fresh"),
    [
        ("inventory", "In your inventory, you see: ...", True),
        ("examine thermometer", "a thermometer", True),
        ("pick up thermometer", "You move the thermometer to the inventory.", False),
        ("pick up unicorn", "No known action matches that input.", True),
        ("wait1", "You decide to wait for 1 iterations.", False),
        ("go to kitchen", "You move to the kitchen.", False),
        ("look around", HALLWAY, True),
    ],
)
def test_a_description_is_fresh_until_something_changes(
    action: str, observation: str, fresh: bool
) -> None:
    assert begun((action, observation)).fresh is fresh
