"""Aimless play: what "the original LLM" of the quickstart knows before any task.

A language model that plays ALFWorld knows English; a tiny one made on the spot does not. It is
pre-trained on episodes in which an agent strolls through generated training scenes, does what is
possible and says truthfully what it sees and does. The task in the prompt is never pursued, and an
episode that would fulfil it by chance ends before. So the model learns how this world speaks and
which actions are possible, and never how to solve anything.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from step_ray.envs.alfworld.belief import Command, parse_action
from step_ray.envs.alfworld.engine import Game, State
from step_ray.envs.alfworld.env import INSTRUCTIONS, first_text
from step_ray.envs.alfworld.generate import SCENES, TASK_TYPES, generate_game, goals_of
from step_ray.envs.alfworld.thoughts import preposition
from step_ray.trajectory import Trajectory, Turn, content_hash

_GO_NEW = (
    "I have not been at {place} yet, so I go there.",
    "I have not looked {at} {place} yet. I go to {place}.",
    "The {place} is still unseen. I go on to {place}.",
)
_GO_OLD = (
    "I was at {place} before. I go back to {place}.",
    "I have seen {place} already and go there again.",
)
_SAY = {
    "open": ("The {place} is closed. I open {place}.", "I open {place} to see what is inside."),
    "close": ("The {place} is open. I close {place}.",),
    "take": (
        "There is {item} {at} {place}. I take {item}.",
        "I see {item} {at} {place}, so I pick it up.",
        "The {item} lies {at} {place}. I take it.",
    ),
    "put": (
        "I hold {item}. I put {item} {at} {place}.",
        "The {item} is in my hand and I put it {at} {place}.",
        "I am at {place} with {item} and leave it here.",
    ),
    "clean": ("I hold {item} and {place} is here, so I can clean it.",),
    "heat": ("I hold {item} and {place} is here, so I can heat it.",),
    "cool": ("I hold {item} and {place} is here, so I can cool it.",),
    "use": ("The {item} is here. I turn it on.", "I can use {item} here."),
    "examine": ("I examine {place}.",),
    "look": ("I look around.",),
    "inventory": ("I check what I carry.",),
}
_RECITE = ("I see {things}.", "Here I see {things}.", "What I see: {things}.")
_LIST = re.compile(r"you see (an? .*?)\.")
_NAMES = re.compile(r"\ban? ([a-z]+ \d+)")
# How often each possible kind of action is chosen; kinds that need something in the hand are rare
# opportunities, so they weigh more.
_WEIGHT = {
    "go": 5.0, "open": 8.0, "close": 0.5, "take": 4.0, "put": 1.5, "clean": 8.0, "heat": 8.0,
    "cool": 8.0, "use": 4.0, "examine": 0.3, "look": 0.2, "inventory": 0.2,
}  # fmt: skip
_STATIONS = ("sinkbasin", "microwave", "fridge")


def aimless_play(
    seed: int, count: int, max_turns: int = 40, talk: bool = False
) -> Iterator[Trajectory]:
    """``count`` episodes of 6 to ``max_turns`` turns, most of them short, in the training scenes;
    deterministic.

    With ``talk`` the agent also makes conversation about what there is to see: whether some kind of
    thing is in view and which, what it holds, how the task in the prompt reads.
    """
    for index in range(count):
        rng = random.Random(f"aimless-play-{seed}-{index}")
        while True:
            task_type, scene = rng.choice(TASK_TYPES), rng.choice(SCENES["train"])
            if goals_of(scene, task_type):
                break
        game = Game.from_dict(generate_game(scene, task_type, rng)["game"])
        length = rng.randint(6, 14 if rng.random() < 0.8 else max_turns)
        yield _stroll(game, rng, length, f"play/{seed}/{index}", task_type, talk)


def _stroll(
    game: Game, rng: random.Random, length: int, name: str, task_type: str, talk: bool
) -> Trajectory:
    state, seen, turns = game.initial(), set[str](), list[Turn]()
    # Most agents walk round the room in its own order, one way or the other.
    way = rng.choices((1, -1, 0), (9, 9, 2))[0]
    last = first_text(game)
    while len(turns) < length:
        action, thought = _choose(game, state, seen, rng, way)
        shown = _LIST.search(last)
        if talk:
            thought = f"{_remark(game, state, shown[1] if shown else '', rng, len(turns))}{thought}"
        # Reciting what was just shown is the shortest way to learn to copy names from it.
        elif shown and rng.random() < (0.3 if turns else 0.6):
            thought = f"{rng.choice(_RECITE).format(things=shown[1])} {thought}"
        ahead = state.fork()
        observation, _ = ahead.step(action)
        if ahead.won():
            break
        state, last = ahead, observation
        seen.update(state.here)
        turns.append(Turn(thought, action, observation, author="student"))
    return Trajectory(
        id=content_hash(name),
        task=name,
        env="alfworld",
        split="train",
        task_type=task_type,
        instruction=INSTRUCTIONS[game.dialect],
        initial_observation=first_text(game),
        turns=tuple(turns),
        reward=0.0,
        success=False,
        outcome="step_limit",
    )


def _remark(game: Game, state: State, shown: str, rng: random.Random, turn: int) -> str:
    """Small talk before a thought, always true, often none: it asks for looking things up in the
    texts, and never for pursuing the task."""
    chance = rng.random()
    if chance < (0.5 if turn == 0 else 0.05):
        return f"My task is to: {game.task_sentence} "
    if state.holding and chance < 0.35:
        return f"I hold {state.holding}. "
    if turn == 0 or chance > 0.75:
        return ""
    here: list[str] = _NAMES.findall(shown)
    kinds = sorted({game.type_of[name] for name in (here if rng.random() < 0.5 else game.objects)})
    if not kinds:
        return ""
    kind = rng.choice(kinds)
    found = next((name for name in here if game.type_of[name] == kind), None)
    article = "an" if kind[0] in "aeiou" else "a"
    return f"Do I see {article} {kind}? " + (f"I see {found}. " if found else f"I see no {kind}. ")


def _choose(
    game: Game, state: State, seen: set[str], rng: random.Random, way: int
) -> tuple[str, str]:
    """A possible action and what the agent says about it."""
    kinds: dict[str, list[tuple[str, Command]]] = {}
    for action in state.admissible():
        command = parse_action(action)
        if command.verb in _WEIGHT:
            kinds.setdefault(command.verb, []).append((action, command))
    say: tuple[str, ...]
    verbs = sorted(kinds)
    verb = rng.choices(verbs, [_WEIGHT[verb] for verb in verbs])[0]
    if verb == "go":
        place = _destination([c.place for _, c in kinds[verb]], game, state, seen, rng, way)
        action, command = f"go to {place}", Command("go", place=place)
        say = _GO_OLD if place in seen else _GO_NEW
    else:
        action, command = rng.choice(kinds[verb])
        say = _SAY[verb]
    at = preposition(command.place) if command.place else ""
    return action, rng.choice(say).format(item=command.item, place=command.place, at=at)


def _destination(
    places: list[str], game: Game, state: State, seen: set[str], rng: random.Random, way: int
) -> str:
    """Somewhere to go: with something in the hand often where it can be used, else mostly where
    the agent has not been, in the room's own order (``way`` 1 or -1) or at random (0)."""
    stations = [place for place in places if game.type_of[place] in _STATIONS]
    if state.holding and stations and rng.random() < 0.4:
        return rng.choice(stations)
    fresh = [place for place in game.receptacles[:: way or 1] if place in set(places) - seen]
    if not fresh or rng.random() < 0.15:
        return rng.choice(places)
    if not way:
        return rng.choice(fresh)
    last = max((game.receptacles.index(p) * way for p in state.here), default=-1000)
    return next((p for p in fresh if game.receptacles.index(p) * way > last), fresh[0])
