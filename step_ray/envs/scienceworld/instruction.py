"""What an agent is told first: how to act in ScienceWorld, the same for all tasks of a setting."""

from __future__ import annotations

_INSTRUCTION = """\
You are an agent in a text world with a house and its surroundings, and do an elementary science \
task, one action at a time. OBJ is a thing or a room that you can see or carry, by its name; \
"N in PLACE" tells apart things of one name.
Actions:
{actions}
Every action takes time: things heat up and cool down, living things grow. Focusing on a wrong \
thing fails the task, so focus only on what the task tells you to.
When a name fits several things you are shown a numbered list: answer with the number alone.
{rules}Answer in this form:
Thought: your reasoning
Action: your action"""

_ACTIONS = (
    ("look around", "describe the room"),
    ("look at OBJ", "describe a thing"),
    ("look in OBJ", "describe what is inside"),
    ("inventory", "list what you carry"),
    ("task", "repeat the task"),
    ("open OBJ", "open a door or container"),
    ("close OBJ", "close a door or container"),
    ("go to OBJ", "go to a room next to this one, through an open door"),
    ("teleport to OBJ", "be in any room at once"),
    ("pick up OBJ", "take a thing along"),
    ("put down OBJ", "leave a thing here"),
    ("move OBJ to OBJ", "put a thing into or onto another"),
    ("pour OBJ into OBJ", "pour a liquid into a container"),
    ("dunk OBJ into OBJ", "dip a container into a liquid"),
    ("mix OBJ", "let the contents of a container react"),
    ("activate OBJ", "turn a device on"),
    ("deactivate OBJ", "turn a device off"),
    ("use OBJ on OBJ", "apply a tool or an instrument to a thing"),
    ("connect OBJ to OBJ", "join the terminals of electrical parts"),
    ("disconnect OBJ", "undo the connections of an electrical part"),
    ("read OBJ", "read a note or book"),
    ("eat OBJ", "eat food"),
    ("flush OBJ", "flush a toilet"),
    ("focus on OBJ", "say that this is what the task is about"),
    ("wait", "let 10 time steps pass"),
    ("wait1", "let one time step pass"),
)
_ELECTRICAL = ("connect OBJ to OBJ", "disconnect OBJ")
_RULES = {
    "teleportAction": "You can teleport to any room.",
    "openDoors": "All doors are open.",
    "openContainers": "All containers are open.",
    "selfWateringFlowerPots": "Flower pots need no watering.",
}


def instruction_for(simplifications: str) -> str:
    """The instruction under the (spelled out, comma-separated) simplifications."""
    chosen = simplifications.split(",")
    absent = {
        *(() if "teleportAction" in chosen else ("teleport to OBJ",)),
        *(_ELECTRICAL if "noElectricalAction" in chosen else ()),
    }
    actions = "\n".join(
        f"- {action}: {meaning}" for action, meaning in _ACTIONS if action not in absent
    )
    rules = " ".join(text for name, text in _RULES.items() if name in chosen)
    return _INSTRUCTION.format(actions=actions, rules=f"{rules}\n" if rules else "")
