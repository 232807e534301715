"""What a plan's next action is for: rooms, things and purposes, put in words.

Only the task's text, what was read so far and the plan itself are used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from step_ray.envs.scienceworld.commands import FREE, TRAVEL, Command, Verb, bare, parse, refusal
from step_ray.envs.scienceworld.transcript import ROOMS, Transcript, way

_TEMPERATURE = re.compile(r"temperature of (-?\d+) degrees")
_LIMIT = re.compile(r"(?:above|below) (-?[\d.]+) degrees")
_BULB = re.compile(r"([a-z]* ?light bulb), which is (on|off)")
_HEATERS = ("stove", "oven", "blast furnace", "hot plate", "fire pit", "heater")
_NOT_WORK: frozenset[Verb] = FREE | {"wait", "number"}
_UNCOUNTED = ("soil", "water", "wood", "paint", "ice", "soap", "chloride", "milk", "juice")
_COOLERS = ("freezer", "fridge", "ultra low temperature freezer")
_TOOLS = {"thermometer": "to measure temperatures", "lighter": "to light a fire",
          "shovel": "to dig up soil", "stopwatch": "to measure time", "axe": "to chop with",
          "recipe": "to read what it says"}  # fmt: skip
_USES = {"focus": "to focus on, as the task says", "read": "to read what it says",
         "drop": "at another place", "mix": "to mix things in", "eat": "to eat"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Work:
    """The next action of a plan that is more than getting somewhere, and the room it needs."""

    action: str
    room: str
    rest: tuple[str, ...]

    @property
    def command(self) -> Command:
        return parse(self.action)


def is_door(command: Command) -> bool:
    """Whether a command is about a door between rooms."""
    return command.verb in ("open", "close") and bool(re.match(r"(?:the )?door\b", command.item))


def next_work(plan: Sequence[str], room: str) -> Work | None:
    """The first action that does something, for an agent that is in ``room``."""
    for number, action in enumerate(plan):
        command = parse(action)
        if command.verb in TRAVEL:
            room = command.item
        elif _is_work(command):
            return Work(action, room, tuple(plan[number + 1 :]))
    return None


def _is_work(command: Command) -> bool:
    """Whether a command is about a thing, and not about a way, a room or time."""
    if command.verb in _NOT_WORK or is_door(command):
        return False
    return bool(command.item) and command.item not in ROOMS


def shown(name: str) -> str:
    """A thing's name for a sentence: without where it is, no word twice in a row."""
    name = re.sub(r"^(?:the|a|an) ", "", name)
    name = re.sub(r" in (?:inventory|" + "|".join(ROOMS) + r")$", "", name)
    name = re.sub(r" on (?:the )?(?:table|counter|desk|chair)$", "", name)
    name = re.sub(r"^(?:\w+ )?(cup|jug|pot|bowl) containing nothing", r"empty \1", name)
    name = re.sub(r" in the (\w+) stage in .*", r" in the \1 stage", name)
    name = re.sub(r"^(?:\w+ )?(cup|jug|pot|bowl) containing (.+)", r"\1 of \2", name)
    name = re.sub(r"(flower pot \d+) containing .*", r"\1", name)
    name = re.sub(r"^door to (?!the )", "door to the ", name)
    name = re.sub(r"^(.+) (anode|cathode|terminal \d)$", r"\2 of the \1", name)
    name = re.sub(r"\b(\w+ )\1", r"\1", f"{name} ").strip()
    name = re.sub(r"^(egg|\w+) (.+) \1$", r"\2 \1", name)
    return re.sub(r" in (?!the\b)(\w)", r" in the \1", name)


def thing_of(command: Command) -> str:
    """The thing that a command needs to be near."""
    name = shown(command.place if command.verb == "use" and command.place else command.item)
    return re.sub(r"^(?:anode|cathode|terminal \d) (?:of|in) the ", "", name)


def goal_of(description: str) -> str:
    """The task as an infinitive without details: "measure the temperature of water"."""
    text = description.removeprefix("Task Description:").strip().removeprefix("Your task is to ")
    text = re.sub(r" \([^)]*\)", "", text.replace("a(n)", "a"))
    goal = re.split(r"[.,] |\.$", text, maxsplit=1)[0].strip()
    vowel = re.sub(r"\ba (?=[aeiou])", "an ", goal)
    return vowel if len(vowel) < 120 else "do the task"


def known_in(now: Transcript, description: str, thing: str, room: str) -> str:
    """How the agent knows that a thing is in a room: "seen", "task", or "" if it does not."""
    words = _words(thing)
    texts = [(now.first, now.begun), *((e.observation, e.room) for e in now.events)]
    for text, where in texts:
        if where == room and words and words <= _words(text) and not refusal(text):
            return "seen"
    return "task" if room in description.lower() else ""


def purpose(thing: str, rest: Sequence[str]) -> str:
    """What a thing is wanted for, as an infinitive with "to"; "" if the plan does not say."""
    if thing in _TOOLS:
        return _TOOLS[thing]
    commands = [parse(action) for action in rest]
    uses = [c for c in commands if alike(_own(c.item), thing) or alike(_own(c.place), thing)]
    if any(command.verb == "connect" for command in uses):
        return "for the electrical circuit"
    for command in uses:
        mine = alike(_own(command.item), thing)
        item, place = shown(command.item), shown(command.place)
        if command.verb in ("move", "pour"):
            return f"to {command.verb} into the {place}" if mine else f"to hold the {item}"
        if command.verb == "use":
            return f"to use on the {place}" if mine else "to examine closely"
        if command.verb in _USES:
            return _USES[command.verb]
    return ""


def held(now: Transcript) -> frozenset[str]:
    """Names of what was picked up and not put anywhere since."""
    things: set[str] = set()
    for event in now.events:
        for name, place in re.findall(r"You move the (.+?) to the ([^.]+)\.", event.observation):
            (things.add if place == "inventory" else things.discard)(name.lower())
    return frozenset(things)


def carried(now: Transcript, thing: str) -> bool:
    """Whether the agent has a thing with it."""
    return any(alike(_own(thing), name) for name in held(now))


def sought(now: Transcript, description: str, command: Command) -> str:
    """What is needed for a command, named as one who may not have seen it yet names it."""
    thing = thing_of(command)
    words = _words(thing)
    if words <= _words(description) or words <= _words(now.text):
        return f"the {thing}"
    if command.verb == "focus":
        stages = re.search(r"life stages of (the .+?)[.,]", description)
        asked = re.search(r"find (?:a\(n\)|the) (.+?)[.,]", description)
        if stages or not asked:
            return stages[1] if stages else "what the task asks for"
        return f"the {asked[1]}" if "est " in asked[1] else article(asked[1])
    return article(thing)


def article(noun: str) -> str:
    """The noun with ``a`` or ``an``, where it takes one."""
    if noun.split()[-1] in _UNCOUNTED:
        return noun
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def awaited(now: Transcript, plan: Sequence[str], description: str) -> str:
    """What a wait is for."""
    if "life stages of" in description:
        return "the next life stage"
    if re.search(r"\bgrow|seed|plant", description):
        return "the plant to grow"
    for event in reversed(now.events):
        moved = parse(event.action)
        if moved.verb == "move" and heats(moved.place):
            return f"the {_own(moved.item)} to {heats(moved.place)} {_ENDS[heats(moved.place)]}"
    return "things to take their course"


_ENDS = {"heat": "up", "cool": "down"}


def leg(plan: Sequence[str], room: str) -> str:
    """The room that the first moves of a plan make straight for."""
    stops = [parse(action).item for action in plan[: _moves(plan)] if parse(action).verb in TRAVEL]
    straight = room
    for number, stop in enumerate(stops, 1):
        if len(way(room, stop)) != number:
            break
        straight = stop
    return straight


def _moves(plan: Sequence[str]) -> int:
    """How many actions at the beginning of a plan are about getting somewhere."""
    for number, action in enumerate(plan):
        command = parse(action)
        if command.verb not in TRAVEL and command.verb not in FREE and not is_door(command):
            return number
    return len(plan)


def finding(now: Transcript, description: str) -> str:
    """What was measured last, as a clause that bears on the decision; "" without one."""
    for event in reversed(now.events):
        degrees = _TEMPERATURE.search(event.observation)
        limit = _LIMIT.search(description)
        if degrees and limit:
            side = "above" if float(degrees[1]) > float(limit[1]) else "below"
            return f"the thermometer shows {degrees[1]} degrees, which is {side} {limit[1]}"
        bulb = _BULB.search(event.observation)
        if bulb and "conductive" in description:
            conducts = "conducts" if bulb[2] == "on" else "does not conduct"
            return f"the {bulb[1]} is {bulb[2]}, so it {conducts} electricity"
    return ""


def heats(place: str) -> str:
    """What a device does to what is in it: "heat", "cool" or ""."""
    if any(place.endswith(name) for name in _HEATERS):
        return "heat"
    return "cool" if any(place.endswith(name) for name in _COOLERS) else ""


def _own(name: str) -> str:
    """The name without the place: of "substance in metal pot", the substance."""
    return bare(shown(name))


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", text.lower())) - {"the", "a", "in", "of", "on"}


def alike(one: str, other: str) -> bool:
    """Whether two names may mean one thing: all words of one are in the other."""
    a, b = _words(one), _words(other)
    return bool(a and b) and (a <= b or b <= a)
