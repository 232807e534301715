"""What an agent can know of an ALFWorld game from the texts it was shown, and from nothing else.

The expert plans on a :class:`Belief` and the judge compares a proposed action with it, so neither
knows where a thing is before the agent could. Both action dialects (``put X in/on Y`` and
``move X to Y``) and both engines (native and stock) are read the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from step_ray.envs.alfworld.pddl import Goal

_NAME = r"[a-z]+ \d+"
_LIST_ITEM = re.compile(rf"\ban? ({_NAME})")
_ON = re.compile(rf"On the ({_NAME}), you see ([^.]*)\.")
_IN = re.compile(rf"The ({_NAME}) is open\. In it, you see ([^.]*)\.")
_CLOSED = re.compile(rf"The ({_NAME}) is closed\.")
_SHUT = re.compile(rf"You close the ({_NAME})\.")
_ARRIVE = re.compile(r"You arrive at ([a-z]+ \d+)\.")
_TAKE = re.compile(rf"You pick up the ({_NAME}) from the ({_NAME})\.")
_PUT = re.compile(rf"You (?:put|move) the ({_NAME}) (?:in/on|to) the ({_NAME})\.")
_PROCESS = re.compile(rf"You (clean|heat|cool) the ({_NAME}) using the ({_NAME})\.")
_LIGHT = re.compile(rf"You turn on the ({_NAME})\.")
_FACING = re.compile(r"You are facing the (.*?)\. Next to it, you see (.*)\.", re.DOTALL)
_CARRY = re.compile(rf"You are carrying: an? ({_NAME})\.")
_EXAMINED = re.compile(rf"This is an? ((?:hot|cool|cold|clean|and|sliced| )+) ({_NAME})\.")
_STATE_WORDS = {"clean": "clean", "hot": "heat", "cool": "cool", "cold": "cool"}  # word -> verb
_TASK = re.compile(r"Your task is to: (.*?)\.?\s*\Z", re.DOTALL)
_LIGHT_TASK = re.compile(r"(?:examine the|look at) (\w+) (?:with|under) the (\w+)")
_TWO_TASK = re.compile(r"(?:find|put) two (\w+) (?:and put them )?(?:in|on) (\w+)")
_DO_TASK = re.compile(r"(clean|heat|cool) some (\w+) and put it (?:in|on) (\w+)")
_STATE_TASK = re.compile(r"put a (clean|hot|cool) (\w+) (?:in|on) (\w+)")
_PLACE_TASK = re.compile(r"put (?:a|some) (\w+) (?:in|on) (\w+)")

# An action pattern: verb -> (regular expression, names of its groups).
_ACTIONS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("go", re.compile(r"go to (?P<place>.+)")),
    ("open", re.compile(r"open (?P<place>.+)")),
    ("close", re.compile(r"close (?P<place>.+)")),
    ("take", re.compile(r"take (?P<item>.+?) from (?P<place>.+)")),
    ("put", re.compile(r"put (?P<item>.+?) in/on (?P<place>.+)")),
    ("put", re.compile(r"move (?P<item>.+?) to (?P<place>.+)")),
    ("clean", re.compile(r"clean (?P<item>.+?) with (?P<place>.+)")),
    ("heat", re.compile(r"heat (?P<item>.+?) with (?P<place>.+)")),
    ("cool", re.compile(r"cool (?P<item>.+?) with (?P<place>.+)")),
    ("slice", re.compile(r"slice (?P<item>.+?) with (?P<place>.+)")),
    ("use", re.compile(r"use (?P<item>.+)")),
    ("examine", re.compile(r"examine (?P<place>.+)")),
    ("look", re.compile(r"look")),
    ("inventory", re.compile(r"inventory")),
    ("help", re.compile(r"help")),
)


@dataclass(frozen=True, slots=True)
class Command:
    """A parsed action; ``verb`` is "" for text that is no command at all."""

    verb: str
    item: str = ""
    place: str = ""


def parse_action(action: str) -> Command:
    """Splits an action into verb and names; ``put`` and ``move`` are one verb."""
    text = action.strip()
    for verb, pattern in _ACTIONS:
        found = pattern.fullmatch(text)
        if found:
            groups = found.groupdict()
            return Command(verb, groups.get("item", ""), groups.get("place", ""))
    return Command("")


def kind_of(name: str) -> str:
    """``mug 2`` -> ``mug``."""
    return name.rpartition(" ")[0]


def parse_goal(sentence: str) -> Goal | None:
    """The goal that a task's sentence states; None for a sentence of no known form."""
    if found := _LIGHT_TASK.match(sentence):
        return Goal("look_at_obj_in_light", found[1], None, 1, found[2], None)
    if found := _TWO_TASK.match(sentence):
        return Goal("pick_two_obj_and_place", found[1], found[2], 2, None, None)
    if found := _DO_TASK.match(sentence) or _STATE_TASK.match(sentence):
        state = cast(Literal["clean", "hot", "cool"], {"heat": "hot"}.get(found[1], found[1]))
        verb = "heat" if state == "hot" else state
        kind = f"pick_{verb}_then_place_in_recep"
        return Goal(kind, found[2], found[3], 1, None, state)
    if found := _PLACE_TASK.match(sentence):
        return Goal("pick_and_place_simple", found[1], found[2], 1, None, None)
    return None


@dataclass(frozen=True, slots=True)
class Place:
    """A receptacle. ``contents`` is what was last seen, kept up to date with takes and puts."""

    name: str
    kind: str
    visited: bool = False
    seen: bool = False  # its contents were shown at least once
    closed: bool | None = None  # None: not known yet (or never openable)
    openable: bool = False  # known to open, because it was seen closed or open
    contents: tuple[str, ...] = ()


@dataclass(slots=True)
class Belief:
    """The agent's knowledge. Update with every executed action; :meth:`copy` is cheap.

    ``idle`` holds the actions done since the last change of the world or of this knowledge: doing
    one of them again can bring nothing. ``refused`` holds actions that failed although everything
    known spoke for them, so that the expert does not insist.
    """

    task: str = ""
    goal: Goal | None = None  # as the task's sentence states it
    dialect: str = "move"  # how the game wants a put to be written: "put" or "move"
    places: dict[str, Place] = field(default_factory=dict)
    here: str = ""
    reach: frozenset[str] = frozenset()  # receptacles known to be at the present spot
    held: str = ""
    origin: dict[str, str] = field(default_factory=dict)  # item -> where it was taken from
    located: dict[str, str] = field(default_factory=dict)  # item -> last known receptacle
    clean: set[str] = field(default_factory=set)
    hot: set[str] = field(default_factory=set)
    cool: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)  # lamps that were turned on
    groups: dict[str, frozenset[str]] = field(default_factory=dict)  # receptacles on one spot
    labels: dict[str, str] = field(default_factory=dict)  # "loc 3" -> a receptacle there
    idle: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    turn: int = 0

    @classmethod
    def from_reset(cls, text: str, dialect: str = "move") -> Belief:
        """Reads the reset text: the receptacles in listing order and the task's sentence."""
        room, _, _ = text.partition("Your task is to:")
        belief = cls(dialect=dialect)
        found = _TASK.search(text)
        belief.task = found.group(1).strip() if found else ""
        belief.goal = parse_goal(belief.task)
        for name in _LIST_ITEM.findall(room):
            belief.places[name] = Place(name, kind_of(name))
        return belief

    def copy(self) -> Belief:
        """An independent copy."""
        return replace(
            self,
            places=dict(self.places),
            origin=dict(self.origin),
            located=dict(self.located),
            clean=set(self.clean),
            hot=set(self.hot),
            cool=set(self.cool),
            used=set(self.used),
            groups=dict(self.groups),
            labels=dict(self.labels),
            idle=set(self.idle),
            refused=set(self.refused),
        )

    # -- questions -------------------------------------------------------------------------------

    def of_kind(self, kind: str | None) -> list[Place]:
        """Receptacles of a type, in listing order."""
        return [place for place in self.places.values() if place.kind == kind]

    def known(self, kind: str | None) -> Iterator[tuple[str, str]]:
        """(item, receptacle) of every item of a type whose place is known; not the held one."""
        for item, place in self.located.items():
            if kind_of(item) == kind:
                yield item, place

    def has_state(self, item: str, state: str | None) -> bool:
        """Whether the item is known to be ``clean``, ``hot`` or ``cool``; None asks for nothing."""
        known: Mapping[str, set[str]] = {"clean": self.clean, "hot": self.hot, "cool": self.cool}
        return not state or item in known[state]

    def put(self, item: str, place: str) -> str:
        """The command that puts an item down, in the game's dialect."""
        return f"put {item} in/on {place}" if self.dialect == "put" else f"move {item} to {place}"

    # -- reading ---------------------------------------------------------------------------------

    def update(self, action: str, observation: str) -> None:
        """Takes in the answer to an executed action."""
        self.turn += 1
        command = parse_action(action)
        if observation.startswith("Nothing happens"):
            self._failed(action.strip(), command)
            return
        changed = self._movement(command, observation)
        if command.place in self.places and command.place not in self.reach and self.here:
            self._together(self.here, command.place)  # else the action would have failed
        changed |= self._contents(observation)
        changed |= self._handling(observation)
        if changed:
            self.idle.clear()
        self.idle.add(action.strip())

    def _failed(self, action: str, command: Command) -> None:
        place = self.places.get(command.place)
        if command.verb == "go" and place and self.here and place.name != self.here:
            self._together(self.here, place.name)  # the only reason: it is on this very spot
        elif self._should_work(command):
            self.refused.add(action)
        self.idle.add(action)

    def _should_work(self, command: Command) -> bool:
        """Whether all that is known spoke for an action."""
        place = self.places.get(command.place)
        if command.verb == "use":
            return self.located.get(command.item, "") in self.reach
        if place is None or place.name not in self.reach:
            return False
        if command.verb == "take":
            return not self.held and command.item in place.contents and place.closed is not True
        if command.verb == "put":
            return self.held == command.item and place.closed is not True
        return command.verb in ("clean", "heat", "cool", "open") and (
            command.verb == "open" or self.held == command.item
        )

    def _together(self, *names: str) -> None:
        spot = frozenset(names).union(*(self.groups.get(name, frozenset()) for name in names))
        for name in spot:
            self.groups[name] = spot
        if self.here in spot:
            self.reach = spot

    def _movement(self, command: Command, observation: str) -> bool:
        changed = False
        arrived = _ARRIVE.search(observation)
        if arrived:
            label = arrived.group(1)
            name = command.place if command.verb == "go" else label
            if name in self.places:
                place = self.places[name]
                changed |= not place.visited
                self.places[name] = replace(place, visited=True)
                self.here = name
                self.reach = self.groups.get(name, frozenset({name}))
                if label.startswith("loc ") and self.labels.setdefault(label, name) != name:
                    self._together(name, self.labels[label])
        facing = _FACING.search(observation)
        if facing:
            names = [n for n in re.findall(_NAME, facing.group(1)) if n in self.places]
            changed |= not self.reach.issuperset(names)
            if names:
                self.here = self.here if self.here in names else names[0]
                self._together(*names)
        return changed

    def _contents(self, observation: str) -> bool:
        changed = False
        for name, listing in _ON.findall(observation):
            changed |= self._saw(name, listing, openable=False)
        for name, listing in _IN.findall(observation):
            changed |= self._saw(name, listing, openable=True)
        for name in _CLOSED.findall(observation) + _SHUT.findall(observation):
            place = self.places.get(name)
            if place and place.closed is not True:
                self.places[name] = replace(place, visited=True, closed=True, openable=True)
                changed = True
        return changed

    def _saw(self, name: str, listing: str, openable: bool) -> bool:
        place = self.places.get(name)
        if place is None:
            return False
        items = tuple(_LIST_ITEM.findall(listing))
        new = replace(
            place,
            visited=True,
            seen=True,
            closed=False if openable else None,
            openable=openable,
            contents=items,
        )
        self.places[name] = new
        changed = (place.seen, place.closed, set(place.contents)) != (True, new.closed, set(items))
        for item in place.contents:
            if item not in items and self.located.get(item) == name:
                del self.located[item]
        for item in items:
            # An item that was listed at two places stays where it was last put or first seen.
            if item != self.held and item not in self.located:
                self.located[item] = name
        return changed

    def _handling(self, observation: str) -> bool:
        changed = False
        for item, name in _TAKE.findall(observation):
            self.held = item
            self.origin[item] = name
            self.located.pop(item, None)
            self._set_contents(name, item, present=False)
            changed = True
        for item, name in _PUT.findall(observation):
            self.held = ""
            self.located[item] = name
            self._set_contents(name, item, present=True)
            changed = True
        for verb, item, _ in _PROCESS.findall(observation):
            changed |= self._processed(verb, item)
        for lamp in _LIGHT.findall(observation):
            changed |= lamp not in self.used
            self.used.add(lamp)
        for words, item in _EXAMINED.findall(observation):
            for word in words.split():
                if word in ("clean", "hot", "cool", "cold"):
                    changed |= self._processed(
                        {"hot": "heat", "cold": "cool"}.get(word, word), item
                    )
        carried = _CARRY.search(observation)
        if carried or observation.startswith("You are not carrying"):
            held = carried.group(1) if carried else ""
            changed |= held != self.held
            self.held = held
            self.located.pop(held, None)
        return changed

    def _set_contents(self, name: str, item: str, present: bool) -> None:
        place = self.places.get(name)
        if place is None:
            return
        rest = tuple(thing for thing in place.contents if thing != item)
        self.places[name] = replace(place, contents=(*rest, item) if present else rest)

    def _processed(self, verb: str, item: str) -> bool:
        before = (item in self.clean, item in self.hot, item in self.cool)
        if verb == "clean":
            self.clean.add(item)
        elif verb == "heat":
            self.hot.add(item)
            self.cool.discard(item)
        else:
            self.cool.add(item)
            self.hot.discard(item)
        return before != (item in self.clean, item in self.hot, item in self.cool)
