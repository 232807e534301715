"""Why the simulator did not do an action, as a clause that the agent could say."""

from __future__ import annotations

import re

from step_ray.envs.scienceworld.commands import TRAVEL, Command
from step_ray.envs.scienceworld.reasons import carried, is_door, shown
from step_ray.envs.scienceworld.simulator import Simulator
from step_ray.envs.scienceworld.transcript import ROOMS, Transcript, neighbours

_TIMES = {
    "no_way": "there is no way from here to there",
    "itself": "a thing cannot go into itself",
    "not_held": "I do not carry that",
    "nothing": "there is nothing that I could do that with",
}


def why_refused(
    code: str, command: Command, observation: str, now: Transcript, sim: Simulator
) -> tuple[str, str]:
    """(cause, clause) of an action that was refused with ``code``; ``sim`` is only looked at."""
    item = shown(command.item)
    if code == "unknown":
        return _why_unknown(command, now, sim)
    if code == "door_closed":
        name = command.item if command.item in ROOMS else "that room"
        return code, f"the door to the {name} is closed"
    if code == "closed":
        found = re.search(r"[Tt]he (.+?) (?:isn't|is not) open", observation)
        return code, f"the {found[1] if found else item} is closed"
    if code == "nothing" and command.verb == "mix":
        return code, f"there are no two things in the {item} to mix"
    if code in _TIMES:
        return code, _TIMES[code]
    if code == "cannot_move" and "You" in observation:
        state = "gas" if "gas" in observation else "liquid" if "liquid" in observation else "solid"
        return code, f"the {item} is a {state}, which cannot be handled like that"
    if code == "senseless":
        return code, f"that makes no sense with the {item}"
    text = observation.strip().rstrip(".")
    return code, text[:1].lower() + text[1:]


def _why_unknown(command: Command, now: Transcript, sim: Simulator) -> tuple[str, str]:
    if not command.verb or command.verb == "number":
        return "no_command", "that is not a command I can use here"
    if command.verb in TRAVEL and command.item in ROOMS:
        if command.verb == "teleport":
            return "no_command", "I cannot teleport"
        if command.item not in neighbours(now.room):
            return "not_next", f"the {command.item} is not next to the {now.room}"
    if is_door(command):
        return "no_such_door", f"there is no such door in the {now.room}"
    seen = f"{sim.look()}\n{sim.inventory()}".lower()
    for name in (command.item, command.place):
        if name.endswith(" in inventory") and not carried(now, name):
            return "not_held", f"I do not carry the {shown(name)}"
        if name and not all(word in seen for word in shown(name).lower().split()):
            return "no_such_thing", f"there is no {shown(name)} here that I can see"
    return "no_command", "I cannot do that with what is here"
