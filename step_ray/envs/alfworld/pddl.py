"""Reading the PDDL problem of an ALFWorld game: what exists, what holds at first, what is wanted.

Only what ALFRED's own problem files use is read; anything else is refused rather than guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["CorruptGame", "Goal", "Problem", "UnknownDomain", "UnsolvableGame", "parse_problem"]

Atom: TypeAlias = tuple[str, ...]  # predicate, then arguments; all lower case
Tree: TypeAlias = "str | list[Tree]"

# Predicates of the domain and their number of arguments.
ARITY = {
    **dict.fromkeys(
        ("atlocation", "receptacleatlocation", "objectatlocation", "inreceptacle", "cancontain"), 2
    ),
    **dict.fromkeys(
        ("inreceptacleobject", "wasinreceptacle", "receptacletype", "objecttype", "holds"), 2
    ),
    **dict.fromkeys(
        ("openable", "opened", "isreceptacleobject", "isreceptacleobjectfull", "checked"), 1
    ),
    **dict.fromkeys(("examined", "holdsany", "holdsanyreceptacleobject", "full", "isclean"), 1),
    **dict.fromkeys(("cleanable", "ishot", "heatable", "iscool", "coolable", "pickupable"), 1),
    **dict.fromkeys(("moveable", "toggleable", "ison", "istoggled", "sliceable", "issliced"), 1),
}
KINDS = frozenset(("agent", "location", "receptacle", "object", "rtype", "otype"))
_COMMENT = re.compile(r";[^\n]*")
_FACT = re.compile(r"\(([^()]*)\)")
_TOKEN = re.compile(r"[()]|[^\s()]+")


class CorruptGame(ValueError):  # noqa: N818
    """A game file that is damaged or contradicts itself."""


class UnknownDomain(ValueError):  # noqa: N818
    """A domain, grammar or goal whose rules this engine does not implement."""


class UnsolvableGame(ValueError):  # noqa: N818
    """A game whose goal no sequence of actions can reach."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a game asks for. Base names as in the observations: "mug", "sidetable", "desklamp".

    ``target`` is the receptacle to fill, ``lamp`` the thing to turn on while holding the object;
    a goal has one of the two. ``count``: how many such objects must lie in one receptacle.
    """

    task_type: str
    object: str
    target: str | None
    count: int
    lamp: str | None
    state: Literal["clean", "hot", "cool"] | None


@dataclass(frozen=True, slots=True)
class Problem:
    """A parsed problem, in lower case. ``facts``: predicate -> argument tuples, in file order."""

    kinds: Mapping[str, str]  # declared id -> agent, location, receptacle, object, rtype or otype
    facts: Mapping[str, Sequence[Atom]]
    goal: Goal

    def of(self, predicate: str) -> Sequence[Atom]:
        """The argument tuples of a predicate that hold at first."""
        return self.facts.get(predicate, ())


def strip_comments(text: str) -> str:
    """PDDL text without comments and with single blanks, in lower case."""
    return " ".join(_COMMENT.sub(" ", text).split()).lower()


def parse_problem(text: str) -> Problem:
    """Reads a problem. Raises CorruptGame, or UnknownDomain for a goal of another shape."""
    if ";" in text:
        text = _COMMENT.sub(" ", text)
    text = text.lower()
    if text.count("(") != text.count(")"):
        raise CorruptGame("the PDDL problem's brackets do not match; was the file cut off?")
    marks = [text.find(mark) for mark in ("(:objects", "(:init", "(:goal")]
    if -1 in marks or marks != sorted(marks):
        raise CorruptGame("the PDDL problem lacks :objects, :init and :goal, in this order")
    kinds = _objects(text[marks[0] + len("(:objects") : marks[1]])
    facts = _facts(text[marks[1] + len("(:init") : marks[2]], kinds)
    return Problem(kinds, facts, read_goal(text[marks[2] :]))


def _objects(text: str) -> dict[str, str]:
    words = text.replace(")", " ").split()
    if len(words) % 3 or set(words[1::3]) - {"-"}:
        raise CorruptGame('the :objects of the PDDL problem are not all written "name - kind"')
    kinds = dict(zip(words[0::3], words[2::3], strict=True))
    strange = set(kinds.values()) - KINDS
    if strange:
        raise CorruptGame(f"the PDDL problem declares objects of unknown kind: {sorted(strange)}")
    return kinds


def _facts(text: str, kinds: Mapping[str, str]) -> dict[str, list[Atom]]:
    facts: dict[str, dict[Atom, None]] = {}  # a dict as ordered set: real files repeat facts
    for found in _FACT.findall(text):
        predicate, *arguments = found.split() or [""]
        if ARITY.get(predicate) != len(arguments):
            raise CorruptGame(f"the PDDL problem's :init has a fact unknown to ALFWorld: ({found})")
        facts.setdefault(predicate, {})[tuple(arguments)] = None
    used = {name for atoms in facts.values() for atom in atoms for name in atom}
    if not used <= kinds.keys():
        missing = sorted(used - kinds.keys())[:3]
        raise CorruptGame(f"the PDDL problem's :init uses undeclared names: {', '.join(missing)}")
    return {predicate: list(atoms) for predicate, atoms in facts.items()}


# --- the goal -------------------------------------------------------------------------------

_STATES: Mapping[str, tuple[Literal["clean", "hot", "cool"], str, str]] = {
    "isclean": ("clean", "cleanable", "pick_clean_then_place_in_recep"),
    "ishot": ("hot", "heatable", "pick_heat_then_place_in_recep"),
    "iscool": ("cool", "coolable", "pick_cool_then_place_in_recep"),
}


def read_goal(text: str) -> Goal:
    """The goal in ``(:goal ...`` if it is one of ALFWorld's six, else UnknownDomain.

    Nested quantifiers are flattened: all are existential and no two of one kind can clash, so
    the goal is the set of its atoms, and that set must be exactly the one of a task type.
    """
    atoms = set(_flatten(_tree(text)))
    predicates = {atom[0] for atom in atoms}
    goal = _light(atoms) if "istoggled" in predicates else _place(atoms, predicates)
    if goal is None:
        raise UnknownDomain(
            "the game's goal is not one of ALFWorld's six task types; play it with the stock engine"
        )
    return goal


def _tree(text: str) -> Tree:
    """The first bracket of a text as nested lists."""
    stack: list[list[Tree]] = [[]]
    for token in _TOKEN.findall(text):
        if token == "(":
            stack.append([])
        elif token != ")":
            stack[-1].append(token)
        else:
            done = stack.pop()
            if len(stack) == 1:
                return done
            stack[-1].append(done)
    raise CorruptGame("the goal of the PDDL problem is cut off")


def _flatten(tree: Tree) -> Iterator[Atom]:
    match tree:
        case [":goal", inner]:
            yield from _flatten(inner)
        case ["and", *parts]:
            for part in parts:
                yield from _flatten(part)
        case ["exists", list(), inner]:
            yield from _flatten(inner)
        case ["not", ["=", str(left), str(right)]]:
            yield ("differ", *sorted((left, right)))
        case [*words] if words and all(isinstance(word, str) for word in words):
            yield tuple(str(word) for word in words)
        case _:
            yield ("unknown",)  # or, forall, another negation: matches no task type


def _base(type_name: str) -> str:
    return type_name.removesuffix("type")


def _typed(atoms: set[Atom], predicate: str) -> dict[str, str]:
    return {atom[1]: atom[2] for atom in atoms if atom[0] == predicate and len(atom) == 3}


def _place(atoms: set[Atom], predicates: set[str]) -> Goal | None:
    """One or two objects of a kind, perhaps in a certain state, in one receptacle."""
    things, places = _typed(atoms, "objecttype"), _typed(atoms, "receptacletype")
    if len(places) != 1 or len(set(things.values())) != 1 or len(things) > 2:
        return None
    ((place, place_type),) = places.items()
    kind = next(iter(things.values()))
    expected: set[Atom] = {("receptacletype", place, place_type)}
    for thing in things:
        expected |= {("objecttype", thing, kind), ("inreceptacle", thing, place)}
    state, task_type = None, "pick_and_place_simple"
    if len(things) == 2:
        task_type = "pick_two_obj_and_place"
        expected.add(("differ", *sorted(things)))
    else:
        (thing,) = things
        for predicate in predicates & _STATES.keys():
            state, needed, task_type = _STATES[predicate]
            expected |= {(predicate, thing), (needed, thing)}
    if atoms != expected:
        return None
    return Goal(task_type, _base(kind), _base(place_type), len(things), None, state)


def _light(atoms: set[Atom]) -> Goal | None:
    """An object in hand at the place of a lamp that was turned on."""
    names = {atom[0]: atom[1:] for atom in atoms}
    try:
        (lamp,), (agent, thing) = names["istoggled"], names["holds"]
        place, location = names["receptacleatlocation"]
    except (KeyError, ValueError):
        return None
    types = _typed(atoms, "objecttype")
    expected: set[Atom] = {
        ("objecttype", lamp, types.get(lamp, "")),
        ("toggleable", lamp),
        ("istoggled", lamp),
        ("receptacleatlocation", place, location),
        ("atlocation", agent, location),
        ("inreceptacle", lamp, place),
        ("objecttype", thing, types.get(thing, "")),
        ("holds", agent, thing),
    }
    if atoms != expected or lamp == thing:
        return None
    return Goal("look_at_obj_in_light", _base(types[thing]), None, 1, _base(types[lamp]), None)
