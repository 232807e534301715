"""One ALFWorld episode: the domain's rules and the grammar's sentences, written out.

Odd rules are the original's own: a shut microwave heats, "use" always says "You turn on", a lamp
in no receptacle cannot be used, an object may be listed in two places, and play goes on after a
win, which can be lost again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from step_ray.envs.alfworld.dialect import HELP
from step_ray.envs.alfworld.world import bits

if TYPE_CHECKING:
    from step_ray.envs.alfworld.engine import Game

__all__ = ["State", "listing"]

NOTHING_HAPPENS = "Nothing happens."


class State:
    """An episode. ``step`` changes it; take a ``fork`` first to keep the present one.

    The structured view (everything after ``won``) is privileged: it knows what is in shut
    receptacles. Its methods raise KeyError for names that the game does not have.
    """

    __slots__ = (
        "_admissible",
        "_clean",
        "_contents",
        "_cool",
        "_held",
        "_hot",
        "_located",
        "_loose",
        "_opened",
        "_place",
        "_sliced",
        "_toggled",
        "_world",
        "game",
    )

    def __init__(self, game: Game) -> None:
        self.game = game
        self._world = game.world
        start = game.world.start
        self._place = start.location
        self._held = start.held
        self._contents = list(start.contents)
        self._located = list(start.located)
        # By receptacle: objects explicitly taken out and not put back. Only those can be seen
        # "next to it", when another receptacle with the same view point has them.
        self._loose = [0] * len(start.contents)
        self._opened = start.opened
        self._clean = start.clean
        self._hot = start.hot
        self._cool = start.cool
        self._toggled = start.toggled
        self._sliced = start.sliced
        self._admissible: tuple[str, ...] | None = None

    def fork(self) -> State:
        """An independent copy."""
        copy = State.__new__(State)
        copy.game = self.game
        copy._world = self._world
        copy._place = self._place
        copy._held = self._held
        copy._contents = self._contents[:]
        copy._located = self._located[:]
        copy._loose = self._loose[:]
        copy._opened = self._opened
        copy._clean = self._clean
        copy._hot = self._hot
        copy._cool = self._cool
        copy._toggled = self._toggled
        copy._sliced = self._sliced
        copy._admissible = self._admissible
        return copy

    def key(self) -> tuple[object, ...]:
        """A hashable value, equal for equal states of one game."""
        return (
            (self._place, self._held, self._opened, self._toggled),
            (self._clean, self._hot, self._cool, self._sliced),
            (*self._contents, *self._located, *self._loose),
        )

    def step(self, command: str) -> tuple[str, bool]:
        """Executes a command: the observation, and whether it was valid. Any text is allowed."""
        verb, _, rest = command.strip().partition(" ")
        action = _ACTIONS.get(verb)
        text = action(self, rest) if action else None
        return (NOTHING_HAPPENS, False) if text is None else (text, True)

    def admissible(self) -> list[str]:
        """The valid commands, sorted."""
        if self._admissible is None:
            self._admissible = tuple(sorted(set(self._list_admissible())))
        return list(self._admissible)

    def won(self) -> bool:
        """Whether the goal holds now. Play goes on after a win, and it can be lost again."""
        world = self._world
        goal = world.goal
        objects = world.goal_objects
        if goal.target is None:
            lamps = world.goal_lamps & self._toggled
            if self._held < 0 or not lamps or not objects >> self._held & 1:
                return False
            return any(self._contents[r] & lamps for r in world.receptacles_at[self._place])
        if goal.state == "clean":
            objects &= self._clean
        elif goal.state == "hot":
            objects &= self._hot
        elif goal.state == "cool":
            objects &= self._cool
        contents = self._contents
        if goal.count == 1:
            return any(contents[r] & objects for r in world.goal_receptacles)
        return any(
            (contents[r] & objects).bit_count() >= goal.count for r in world.goal_receptacles
        )

    # --- the privileged view ----------------------------------------------------------------

    @property
    def here(self) -> tuple[str, ...]:
        """The receptacles at the agent's place; none before its first move."""
        names = self._world.receptacle_names
        return tuple(names[r] for r in self._world.receptacles_at[self._place])

    @property
    def location(self) -> str | None:
        """The first receptacle of ``here``, None before the first move."""
        here = self._world.receptacles_at[self._place]
        return self._world.receptacle_names[here[0]] if here else None

    @property
    def holding(self) -> str | None:
        """The object in hand."""
        return self._world.object_names[self._held] if self._held >= 0 else None

    def contents(self, receptacle: str) -> tuple[str, ...]:
        """What is in or on a receptacle, shut or not, in the order of listings."""
        names = self._world.object_names
        mask = self._contents[self._world.receptacle_index[receptacle]]
        return tuple(names[o] for o in bits(mask))

    def receptacles_of(self, obj: str) -> tuple[str, ...]:
        """The receptacles an object is in; a few objects start in several at once."""
        mask = 1 << self._world.object_index[obj]
        names = self._world.receptacle_names
        return tuple(names[r] for r, held in enumerate(self._contents) if held & mask)

    def is_open(self, receptacle: str) -> bool | None:
        """Whether a receptacle is open; None if it cannot be shut."""
        r = self._world.receptacle_index[receptacle]
        return bool(self._opened >> r & 1) if self._world.openable >> r & 1 else None

    def is_clean(self, obj: str) -> bool:
        """Whether an object was cleaned; that stays."""
        return bool(self._clean >> self._world.object_index[obj] & 1)

    def is_hot(self, obj: str) -> bool:
        """Whether an object is hot; cooling ends it."""
        return bool(self._hot >> self._world.object_index[obj] & 1)

    def is_cool(self, obj: str) -> bool:
        """Whether an object is cool; heating ends it."""
        return bool(self._cool >> self._world.object_index[obj] & 1)

    def is_sliced(self, obj: str) -> bool:
        """Whether an object was sliced; that stays."""
        return bool(self._sliced >> self._world.object_index[obj] & 1)

    def toggled(self, obj: str) -> bool:
        """Whether an object was ever used; that stays."""
        return bool(self._toggled >> self._world.object_index[obj] & 1)

    def can_contain(self, receptacle: str, obj: str) -> bool:
        """Whether an object may be put into a receptacle, which has no capacity."""
        world = self._world
        r = world.receptacle_index[receptacle]
        return bool(world.fits[r] >> world.object_index[obj] & 1)

    # --- the actions: each gives its text, or None where a precondition fails ---------------

    def _here(self, name: str) -> int:
        """Number of the receptacle of this name at this place, else -1."""
        r = self._world.receptacle_index.get(name, -1)
        return r if r >= 0 and self._world.place_of[r] == self._place else -1

    def _in_hand(self, name: str) -> int:
        """Number of the object of this name in hand, else -1."""
        o = self._world.object_index.get(name, -1)
        return o if o == self._held else -1

    def _accessible(self, r: int) -> bool:
        return bool((self._opened | ~self._world.openable) >> r & 1)

    def _go(self, rest: str) -> str | None:
        world = self._world
        if not rest.startswith("to "):
            return None
        r = world.receptacle_index.get(rest[3:], -1)
        if r < 0 or world.place_of[r] < 0 or world.place_of[r] == self._place:
            return None
        self._place = place = world.place_of[r]
        self._admissible = None
        name = world.place_names[place] if world.verb == "put" else world.receptacle_names[r]
        return f"You arrive at {name}. {self._examine_receptacle(r)}"

    def _open(self, name: str) -> str | None:
        r = self._here(name)
        if r < 0 or self._accessible(r):
            return None
        self._opened |= 1 << r
        self._admissible = None
        return f"You open the {name}. {self._examine_receptacle(r)}"

    def _close(self, name: str) -> str | None:
        r = self._here(name)
        if r < 0 or not self._world.openable & self._opened & 1 << r:
            return None
        self._opened &= ~(1 << r)
        self._admissible = None
        return f"You close the {name}."

    def _take(self, rest: str) -> str | None:
        name, _, place = rest.partition(" from ")
        o, r = self._world.object_index.get(name, -1), self._here(place)
        if o < 0 or r < 0 or self._held >= 0 or not self._accessible(r):
            return None
        mask = 1 << o
        if not mask & self._contents[r] & self._world.pickupable:
            return None
        self._contents[r] &= ~mask
        self._located[self._place] &= ~mask
        self._loose[r] |= mask
        self._held = o
        self._admissible = None
        return f"You pick up the {name} from the {place}."

    def _put(self, rest: str) -> str | None:
        if self._world.verb != "put":
            return None
        name, _, place = rest.partition(" in/on ")
        return f"You put the {name} in/on the {place}." if self._drop(name, place) else None

    def _move(self, rest: str) -> str | None:
        if self._world.verb != "move":
            return None
        name, _, place = rest.partition(" to ")
        return f"You move the {name} to the {place}." if self._drop(name, place) else None

    def _drop(self, name: str, place: str) -> bool:
        o, r = self._in_hand(name), self._here(place)
        if o < 0 or r < 0 or not self._accessible(r) or not self._world.fits[r] >> o & 1:
            return False
        mask = 1 << o
        self._contents[r] |= mask
        self._located[self._place] |= mask
        self._loose[r] &= ~mask
        self._held = -1
        self._admissible = None
        return True

    def _treatable(self, rest: str, objects: int, doers: int) -> tuple[int, str, str] | None:
        """Mask and names for "clean O with R": O in hand, R here (shut or not) and of its kind."""
        name, _, place = rest.partition(" with ")
        o, r = self._in_hand(name), self._here(place)
        if o < 0 or r < 0 or not objects >> o & 1 or not doers >> r & 1:
            return None
        # What one can do next does not depend on these states, so the cached list stays.
        return 1 << o, name, place

    def _do_clean(self, rest: str) -> str | None:
        found = self._treatable(rest, self._world.cleanable, self._world.cleaners)
        if found is None:
            return None
        self._clean |= found[0]
        return f"You clean the {found[1]} using the {found[2]}."

    def _do_heat(self, rest: str) -> str | None:
        found = self._treatable(rest, self._world.heatable, self._world.heaters)
        if found is None:
            return None
        self._hot |= found[0]
        self._cool &= ~found[0]
        return f"You heat the {found[1]} using the {found[2]}."

    def _do_cool(self, rest: str) -> str | None:
        found = self._treatable(rest, self._world.coolable, self._world.coolers)
        if found is None:
            return None
        self._cool |= found[0]
        self._hot &= ~found[0]
        return f"You cool the {found[1]} using the {found[2]}."

    def _usable(self) -> int:
        """Mask of what can be switched here: in some receptacle, shut or not, but not in hand."""
        mask = 0
        for r in self._world.receptacles_at[self._place]:
            mask |= self._contents[r]
        return mask & self._world.toggleable

    def _use(self, name: str) -> str | None:
        o = self._world.object_index.get(name, -1)
        if o < 0 or not self._usable() >> o & 1:
            return None
        self._toggled |= 1 << o
        return f"You turn on the {name}."

    def _slice(self, rest: str) -> str | None:
        name, _, knife = rest.partition(" with ")
        o, k = self._world.object_index.get(name, -1), self._in_hand(knife)
        if o < 0 or k < 0 or not self._world.knives >> k & 1:
            return None
        if not self._located[self._place] & self._world.sliceable & 1 << o:
            return None
        self._sliced |= 1 << o
        return f"You sliced the {name} with the {knife}."

    def _examine(self, name: str) -> str | None:
        r = self._here(name)
        if r >= 0:
            return self._examine_receptacle(r)
        o = self._in_hand(name)
        return self._examine_object(o) if o >= 0 else None

    def _examine_receptacle(self, r: int) -> str:
        name = self._world.receptacle_names[r]
        if not self._accessible(r):
            return f"The {name} is closed."
        names = self._world.object_names
        things = listing([f"a {names[o]}" for o in bits(self._contents[r])])
        if self._world.openable >> r & 1:
            return f"The {name} is open. In it, you see {things}."
        return f"On the {name}, you see {things}."

    def _examine_object(self, o: int) -> str:
        world, mask = self._world, 1 << o
        name = world.object_names[o]
        if world.is_receptacle & mask:
            things = listing([f"a {world.object_names[i]}" for i in bits(world.inner[o])])
            return f"This is a normal {name}. In it, you see {things}."
        clean, sliced = bool(self._clean & mask), bool(self._sliced & mask)
        heat = "hot" if self._hot & mask else "cool" if self._cool & mask else ""
        if heat == "cool" and not clean and not sliced:
            heat = "cold"
        if heat or clean:
            words = " and ".join(filter(None, (heat, "clean" if clean else "")))
            return f"This is a {words} {'sliced ' if sliced else ''}{name}."
        if world.toggleable & self._toggled & mask:
            return f"This {name} is on."
        if sliced and world.sliceable & mask:
            return f"This is a sliced {name}."
        return f"There's nothing special about {name}."

    def _look(self, rest: str) -> str | None:
        if rest:
            return None
        world = self._world
        here = world.receptacles_at[self._place]
        if not here:  # "the room" is only listed by the reset text
            return "You are in the middle of a room. Looking quickly around you, you see nothing."
        located = self._located[self._place]
        loose = sorted(o for r in here for o in bits(self._loose[r] & located))
        things = listing([f"a {world.object_names[o]}" for o in loose])
        places = listing([world.receptacle_names[r] for r in here])
        return f"You are facing the {places}. Next to it, you see {things}."

    def _inventory(self, rest: str) -> str | None:
        if rest:
            return None
        held = self.holding
        return f"You are carrying: a {held}." if held else "You are not carrying anything."

    def _help(self, rest: str) -> str | None:
        return HELP if self._world.help and not rest else None

    def _list_admissible(self) -> list[str]:
        world = self._world
        commands = ["look", "inventory", *world.go_commands[self._place]]
        if world.help:
            commands.append("help")
        names, held = world.object_names, self._held
        thing = names[held] if held >= 0 else ""
        if thing:
            commands.append(f"examine {thing}")
        for r in world.receptacles_at[self._place]:
            name = world.receptacle_names[r]
            commands.append(f"examine {name}")
            accessible = self._accessible(r)
            if world.openable >> r & 1:
                commands.append(f"close {name}" if accessible else f"open {name}")
            if not thing:
                if accessible:
                    mask = self._contents[r] & world.pickupable
                    commands += [f"take {names[o]} from {name}" for o in bits(mask)]
                continue
            if accessible and world.fits[r] >> held & 1:
                put = world.verb == "put"
                commands.append(f"put {thing} in/on {name}" if put else f"move {thing} to {name}")
            for verb, objects, doers in (
                ("clean", world.cleanable, world.cleaners),
                ("heat", world.heatable, world.heaters),
                ("cool", world.coolable, world.coolers),
            ):
                if objects >> held & 1 and doers >> r & 1:
                    commands.append(f"{verb} {thing} with {name}")
        commands += [f"use {names[o]}" for o in bits(self._usable())]
        if thing and world.knives >> held & 1:
            here = self._located[self._place] & world.sliceable
            commands += [f"slice {names[o]} with {thing}" for o in bits(here)]
        return commands


def listing(things: Sequence[str]) -> str:
    """The grammar's lists: "A", "A, and B", "A, B, and C"."""
    if len(things) < 2:
        return things[0] if things else "nothing"
    return f"{', '.join(things[:-1])}, and {things[-1]}"


_ACTIONS: Mapping[str, Callable[[State, str], str | None]] = {
    "go": State._go,
    "open": State._open,
    "close": State._close,
    "take": State._take,
    "put": State._put,
    "move": State._move,
    "clean": State._do_clean,
    "heat": State._do_heat,
    "cool": State._do_cool,
    "use": State._use,
    "slice": State._slice,
    "examine": State._examine,
    "look": State._look,
    "inventory": State._inventory,
    "help": State._help,
}
