"""What an agent can know from the texts so far: the room, doors, what it has looked at."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field, replace

from step_ray.envs.scienceworld.commands import TRAVEL, parse, refusal

_DOORS = (
    ("hallway", "kitchen"), ("hallway", "living room"), ("hallway", "bedroom"),
    ("hallway", "workshop"), ("hallway", "greenhouse"), ("hallway", "art studio"),
    ("kitchen", "bathroom"), ("kitchen", "outside"), ("greenhouse", "outside"),
    ("foundry", "outside"),
)  # fmt: skip
ROOMS = tuple(sorted({room for door in _DOORS for room in door}))
"""The ten places of the simulator's one building."""
_ROOM = re.compile(r"(?:room|location) is called the ([a-z ]+?)\.")
_DOOR = re.compile(r"[Aa] door to the ([a-z ]+?) \(that is (open|closed)\)")
_MOVED = re.compile(r"You (?:move|teleport) (?:through the .+ )?to the ([a-z ]+?)\.")
_NAMED_DOOR = re.compile(r"door (?:to|between) (?:the )?([a-z ]+?)(?: and (?:the )?([a-z ]+?))?$")


def neighbours(room: str) -> tuple[str, ...]:
    """Rooms behind a room's doors."""
    return tuple(b if a == room else a for a, b in _DOORS if room in (a, b))


def way(start: str, end: str) -> list[str]:
    """The rooms to walk through, without ``start``; empty if it is the same room or unknown."""
    came: dict[str, str] = {start: ""}
    queue = deque([start])
    while queue and end not in came:
        room = queue.popleft()
        for other in neighbours(room):
            if other not in came:
                came[other] = room
                queue.append(other)
    path: list[str] = []
    while end in came and end != start:
        path.append(end)
        end = came[end]
    return path[::-1]


@dataclass(frozen=True, slots=True)
class Event:
    """One executed action: where it began and what came of it."""

    action: str
    observation: str
    score: int
    done: bool
    room: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """The texts of an episode, folded as they come; an immutable value.

    ``begun``: the first room. ``looked``: rooms whose description was read. ``fresh``: the last
    description still holds, as nothing was done since that could change the room.
    """

    first: str
    begun: str
    room: str
    opened: frozenset[frozenset[str]] = frozenset()
    looked: frozenset[str] = frozenset()
    visited: frozenset[str] = frozenset()
    fresh: bool = True
    events: tuple[Event, ...] = field(default=())

    @classmethod
    def begin(cls, look: str) -> Transcript:
        """From the first description of the first room."""
        found = _ROOM.search(look)
        room = found[1] if found else ""
        empty = cls(look, room, room, frozenset(), frozenset([room]), frozenset([room]))
        return empty._read_doors(look)

    def then(self, action: str, observation: str, score: int, done: bool) -> Transcript:
        """After one more action."""
        event = Event(action, observation, score, done, self.room)
        after = replace(self, events=(*self.events, event))
        if refusal(observation):
            return after
        command = parse(action)
        moved = _MOVED.match(observation)
        if moved and command.verb in (*TRAVEL, "number"):
            room = moved[1]
            return replace(after, room=room, visited=self.visited | {room}, fresh=False)
        seen = _ROOM.search(observation)
        if seen and seen[1] == self.room:
            after = replace(after, looked=self.looked | {self.room}, fresh=True)
            return after._read_doors(observation)
        door = _NAMED_DOOR.match(command.item)
        if command.verb in ("open", "close") and door:
            other = door[2] if door[2] and door[1] == self.room else door[1]
            pair = frozenset({self.room, other})
            opened = self.opened | {pair} if command.verb == "open" else self.opened - {pair}
            return replace(after, opened=opened)
        changes = command.verb not in ("inventory", "task", "examine", "look_in", "read")
        return replace(after, fresh=self.fresh and not changes)

    @property
    def score(self) -> int:
        """The engine's, -100 to 100."""
        return self.events[-1].score if self.events else 0

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return bool(self.events) and self.events[-1].done

    @property
    def actions(self) -> tuple[str, ...]:
        """What was executed."""
        return tuple(event.action for event in self.events)

    @property
    def ambiguous(self) -> bool:
        """Whether the simulator now waits for the number of one of several readings."""
        return bool(self.events) and refusal(self.events[-1].observation) == "ambiguous"

    @property
    def text(self) -> str:
        """Everything that was read, in lower case."""
        return "\n".join([self.first, *(event.observation for event in self.events)]).lower()

    def route(self, room: str, teleport: bool) -> list[str]:
        """Actions that lead to a room; opens doors that are not known to be open."""
        if room == self.room or not room:
            return []
        if teleport:
            return [f"teleport to {room}"]
        actions, here = [], self.room
        for there in way(self.room, room):
            if frozenset({here, there}) not in self.opened:
                actions.append(f"open door to {there}")
            actions.append(f"go to {there}")
            here = there
        return actions

    def _read_doors(self, look: str) -> Transcript:
        opened = self.opened
        for other, state in _DOOR.findall(look):
            pair = frozenset({self.room, other})
            opened = opened | {pair} if state == "open" else opened - {pair}
        return replace(self, opened=opened)
