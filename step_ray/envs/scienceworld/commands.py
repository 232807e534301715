"""ScienceWorld's actions as verbs with objects, and what its answers mean.

The grammar and the answers are those of the simulator (allenai/ScienceWorld 1.2); several phrases
start the same action ("get", "take" and "pick up").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Verb = Literal[
    "", "open", "close", "go", "teleport", "pick", "drop", "move", "pour", "dunk", "mix", "focus",
    "use", "read", "examine", "look_in", "look", "inventory", "task", "wait", "connect",
    "disconnect", "activate", "deactivate", "eat", "flush", "reset", "number",
]  # fmt: skip

# Longest phrases first. The last word: what stands between two objects, "-" for no object.
_VERBS: tuple[tuple[str, Verb, str], ...] = (
    ("move through", "go", ""), ("walk through", "go", ""), ("teleport into", "teleport", ""),
    ("teleport to", "teleport", ""), ("go through", "go", ""), ("look around", "look", "-"),
    ("reset task", "reset", "-"), ("deactivate", "deactivate", ""),
    ("disconnect", "disconnect", ""), ("move into", "go", ""), ("walk into", "go", ""),
    ("inventory", "inventory", "-"), ("turn off", "deactivate", ""), ("activate", "activate", ""),
    ("put down", "drop", ""), ("focus on", "focus", ""), ("teleport", "teleport", ""),
    ("walk to", "go", ""), ("move to", "go", ""), ("go into", "go", ""), ("pick up", "pick", ""),
    ("look at", "examine", ""), ("look on", "examine", ""), ("examine", "examine", ""),
    ("look in", "look_in", ""), ("connect", "connect", "to|into|in"), ("consume", "eat", ""),
    ("turn on", "activate", ""), ("go to", "go", ""), ("wait1", "wait", "-"),
    ("focus", "focus", ""), ("close", "close", ""), ("flush", "flush", ""), ("open", "open", ""),
    ("move", "move", "to|into|in|on"), ("drop", "drop", ""), ("pour", "pour", "into|in|to"),
    ("dunk", "dunk", "into|in"), ("stir", "mix", ""), ("take", "pick", ""), ("wait", "wait", "-"),
    ("look", "look", "-"), ("task", "task", "-"), ("read", "read", ""),
    ("put", "move", "to|into|in|on"), ("get", "pick", ""), ("mix", "mix", ""),
    ("use", "use", "on|with"), ("eat", "eat", ""), ("go", "go", ""),
)  # fmt: skip

FREE: frozenset[Verb] = frozenset({"look", "inventory", "task"})
"""Verbs that take no time and change nothing."""
IDLE: frozenset[Verb] = FREE | {"examine", "look_in", "read"}
"""Verbs that only inform."""
TRAVEL: frozenset[Verb] = frozenset({"go", "teleport"})

_UNKNOWN = "No known action matches that input."
_NOTHING = "Unknown action."  # also the answer to an action that has nothing to do
_AMBIGUOUS = "Ambiguous request:"
_REFUSALS: tuple[tuple[str, str], ...] = (
    (r"door is not open", "door_closed"),
    (r"is locked|not currently passable|doesn't appear to go anywhere", "no_way"),
    (r"clear how to (get there|go to)", "no_way"),
    (r"is already (open|closed|activated|deactivated)|already flushing", "already"),
    (r"already appears to be in the inventory", "already"),
    (r"(?:isn't|is not) open\b", "closed"),
    (r"is not openable|is not closeable", "cannot_open"),
    (r"something that can be activated|appears broken", "no_device"),
    (r"is not moveable|can't be moved there|isn't? movable|aren't able to move", "cannot_move"),
    (r"into itself|connected to itself", "itself"),
    (r"pick up a (liquid|gas)|pour a (gas|solid)|can't be poured", "cannot_move"),
    (r"is empty, so|does not contain any liquids|is not a container", "empty"),
    (r"does not appear to be in the inventory", "not_held"),
    (r"not edible", "cannot_eat"),
    (r"not sure how to|not sure what|not clear how|must disconnect entire", "senseless"),
    (r"^<?ERROR", "senseless"),
)


@dataclass(frozen=True, slots=True)
class Command:
    """An action read: ``item`` and ``place`` are as written, without the words between."""

    verb: Verb
    item: str = ""
    place: str = ""


def parse(action: str) -> Command:
    """The action's verb and objects; verb "" for what the simulator does not know."""
    text = " ".join(action.split())
    lower = text.lower()
    if text.isdigit():
        return Command("number", text)
    for phrase, verb, rule in _VERBS:
        if lower != phrase and not lower.startswith(phrase + " "):
            continue
        rest = text[len(phrase) :].strip()
        if rule == "-":
            return Command("") if rest else Command(verb)
        if not rest:
            return Command("")
        if not rule:
            return Command(verb, rest)
        # The last "to" or "in" counts: "move soil in inventory to red box"; a tool has no place.
        lazy = "?" if verb in ("use", "connect") else ""
        found = re.fullmatch(rf"(.+{lazy}) (?:{rule}) (?!inventory$)(.+)", rest)
        if not found:
            return Command(verb, rest) if verb == "use" else Command("")
        return Command(verb, found[1], found[2])
    return Command("")


def refusal(observation: str) -> str:
    """Why nothing was done: "unknown", "nothing", "ambiguous" or a code; "" if it was done."""
    text = observation.strip()
    if text.startswith(_UNKNOWN):
        return "unknown"
    if text.startswith(_NOTHING):
        return "nothing"
    if text.startswith(_AMBIGUOUS):
        return "ambiguous"
    if "\n" in text or len(text) > 200:
        return ""
    return next((code for pattern, code in _REFUSALS if re.search(pattern, text)), "")


def bare(name: str) -> str:
    """A thing's name without where it is: "soil in flower pot 2" is soil."""
    return re.split(r" (?:in|on|containing) ", name, maxsplit=1)[0]
