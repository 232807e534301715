"""The judge and the expert against the true distance to the goal.

States of half-random games are sampled, half of them from games in which everything was looked at
first. For every action sampled in them the oracle says whether it shortens the way.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import pytest
from alfworld_games import generated
from alfworld_oracle import FAR, distance
from alfworld_play import draw, solution

from step_ray.envs.alfworld.belief import Belief, kind_of, parse_action
from step_ray.envs.alfworld.engine import Game, State
from step_ray.envs.alfworld.env import first_text
from step_ray.envs.alfworld.expert import Stage, next_turn, stage_of
from step_ray.envs.alfworld.judge import judge
from step_ray.envs.base import Judgement


@dataclass(frozen=True)
class Moment:
    """A state of a game, and what the agent knows in it."""

    state: State
    belief: Belief

    @property
    def game(self) -> Game:
        return self.state.game

    @cached_property
    def distance(self) -> int:
        return distance(self.state)

    @cached_property
    def stage(self) -> Stage:
        goal = self.game.goal
        return stage_of(self.belief, goal, self.state.admissible(), self.state.can_contain)

    @cached_property
    def expert(self) -> str:
        goal, admissible = self.game.goal, self.state.admissible()
        return next_turn(self.belief, goal, admissible, self.state.can_contain)[1]

    @cached_property
    def known(self) -> frozenset[str]:
        """The objects whose place the agent knows."""
        return frozenset({*self.belief.located, self.belief.held})

    @cached_property
    def informed(self) -> bool:
        """Whether everything that matters for the task is known."""
        goal, game = self.game.goal, self.game
        wanted = (n for n in game.objects if game.type_of[n] in (goal.object, goal.lamp))
        places = self.belief.of_kind(goal.target)
        return all(n in self.known or not self.state.receptacles_of(n) for n in wanted) and all(
            place.seen or place.closed for place in places
        )

    def judge(self, action: str) -> Judgement:
        admissible, fits = self.state.admissible(), self.state.can_contain
        return judge(self.belief, self.game.goal, action, admissible, fits)

    def after(self, action: str) -> State:
        state = self.state.fork()
        state.step(action)
        return state

    def spot(self, place: str) -> frozenset[str]:
        """The receptacles that stand where this one does."""
        world = self.game.world
        at = world.place_of[world.receptacle_index[place]]
        return frozenset(world.receptacle_names[r] for r in world.receptacles_at[at])

    def __repr__(self) -> str:
        return f"{self.game.task_sentence} {self.state.here} {self.state.holding} {self.stage}"


@dataclass(frozen=True)
class Case:
    """An action in a moment: how it is judged, and how many steps it brings the goal nearer."""

    moment: Moment
    action: str
    judged: Judgement
    gain: int

    @property
    def verb(self) -> str:
        return parse_action(self.action).verb


def tour(state: State, belief: Belief) -> None:
    for place in state.game.receptacles:
        for command in (f"go to {place}", f"open {place}", f"examine {place}"):
            if command in state.admissible():
                belief.update(command, state.step(command)[0])


def moments(game: Game, rng: random.Random, informed: bool, steps: int = 12) -> Iterator[Moment]:
    """A game that is played at random, and a third by the expert."""
    state = game.initial()
    belief = Belief.from_reset(first_text(game), game.dialect)
    if informed:
        tour(state, belief)
    for _ in range(steps):
        if state.won():
            return
        moment = Moment(state.fork(), belief.copy())
        yield moment
        drawn = draw(state.admissible(), rng, wrong=0)
        action = moment.expert if rng.random() < 0.35 else drawn
        belief.update(action, state.step(action)[0])


@lru_cache(maxsize=2)
def sample(per_type: int, seed: int, actions: int) -> tuple[Case, ...]:
    """The expert's and some other actions in the moments of games of all types."""
    cases = []
    for number, game in enumerate(generated(per_type, seed=seed)):
        rng = random.Random(f"oracle-{seed}-{number}")
        for moment in moments(game, rng, informed=number % 2 == 1):
            admissible = moment.state.admissible()
            drawn = rng.sample(admissible, min(actions, len(admissible)))
            for action in dict.fromkeys([moment.expert, *drawn]):
                after = moment.after(action)
                same = after.key() == moment.state.key()
                gain = 0 if same else moment.distance - distance(after)
                cases.append(Case(moment, action, moment.judge(action), gain))
    return tuple(cases)


SAMPLES = [
    pytest.param((2, 3, 5), id="some"),
    pytest.param((12, 7, 10), id="many", marks=pytest.mark.slow),
]


# -- the oracle itself -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", SAMPLES)
def test_one_action_changes_the_distance_by_one_at_most_towards_the_goal(
    size: tuple[int, int, int],
) -> None:
    """With the way that the search itself has found, this is what makes a distance true."""
    assert max(case.gain for case in sample(*size)) == 1
    for case in sample(*size)[::25]:
        moment = case.moment
        if moment.distance < FAR:
            best = min(distance(moment.after(a)) for a in moment.state.admissible())
            assert best == moment.distance - 1, moment


def test_near_the_goal_there_is_no_shorter_way_of_any_kind() -> None:
    """Every command that is possible is tried, to the depth before the distance."""
    tried = Counter[int]()
    for case in sample(2, 3, 5):
        near = case.moment.distance
        if near not in (2, 3) or tried[near] >= 6:
            continue
        tried[near] += 1
        states = {case.moment.state.key(): case.moment.state}
        for _ in range(near - 1):
            reached = [
                after
                for state in states.values()
                for command in state.admissible()
                if (after := state.fork()).step(command)[1]
            ]
            states |= {state.key(): state for state in reached}
        assert not any(state.won() for state in states.values()), case.moment
    assert set(tried) == {2, 3}


def test_no_solution_is_shorter() -> None:
    for game in generated(3, seed=11):
        commands = list(solution(game.initial()))
        assert distance(game.initial()) <= len(commands)


# -- what it says of the judge and the expert ------------------------------------------------------


def unknown(case: Case) -> bool:
    """Whether an action gains only by what the agent cannot know: an object that it never saw, or
    that two receptacles stand on one spot."""
    moment, place = case.moment, parse_action(case.action).place
    if case.verb == "go" and not moment.spot(place) <= moment.belief.groups.get(place, {place}):
        return True
    before = distance(moment.state, moment.known)
    return distance(moment.after(case.action), moment.known) >= before


def overlooked(case: Case) -> bool:
    """What the judge calls a detour although it gains, and although the agent can know it: going
    to a receptacle for what stands next to it; opening the target when passing it."""
    moment, place = case.moment, parse_action(case.action).place
    if case.verb == "go":
        stage = moment.stage
        serving = {*stage.places, *(p for o, p in moment.belief.known(moment.game.goal.object))}
        return not serving.isdisjoint(moment.spot(place))
    return case.verb == "open" and kind_of(place) == moment.game.goal.target


@pytest.mark.parametrize("size", SAMPLES)
def test_an_error_never_gains_by_what_can_be_known(size: tuple[int, int, int]) -> None:
    errors = [case for case in sample(*size) if case.judged.is_error]
    gaining = [case for case in errors if case.gain > 0 and not unknown(case)]
    assert all(case.judged.kind == "detour" and overlooked(case) for case in gaining), gaining
    assert len(gaining) <= 0.005 * len(errors)


@pytest.mark.parametrize("size", SAMPLES)
def test_what_spoils_the_game_is_irreversible_and_nothing_else_is(
    size: tuple[int, int, int],
) -> None:
    for case in sample(*size):
        if case.moment.distance < FAR:
            spoilt = distance(case.moment.after(case.action)) == FAR if case.gain < -1 else False
            assert case.judged.irreversible == spoilt, case


@pytest.mark.parametrize("size", SAMPLES)
def test_what_is_no_error_costs_at_most_what_the_table_allows(size: tuple[int, int, int]) -> None:
    """One step: for walking to put a useless thing down, to another instance, or for closing."""
    for case in informed(sample(*size)):
        if not case.judged.is_error and case.gain < 0:
            assert case.gain == -1, case
            allowed = {("go", "drop"), ("go", "fetch")}
            assert (case.verb, case.moment.stage.need) in allowed or case.verb == "close", case


@pytest.mark.parametrize("size", SAMPLES)
def test_the_expert_gains_when_all_is_known(size: tuple[int, int, int]) -> None:
    """Nearly always; else with the object that it has chosen, or on its way to put one down."""
    cases = [case for case in informed(sample(*size)) if case.action == case.moment.expert]
    for case in cases:
        assert not case.judged.is_error
        assert case.gain >= 0, case
        if case.gain == 0:
            assert case.moment.stage.need == "drop" or chosen_gain(case) == 1, case
    assert sum(case.gain == 1 for case in cases) >= 0.8 * len(cases)


def informed(cases: Sequence[Case]) -> list[Case]:
    return [case for case in cases if case.moment.informed and case.moment.distance < FAR]


def chosen_gain(case: Case) -> int:
    """The gain if only the object that the expert is after can be used."""
    moment, goal = case.moment, case.moment.game.goal
    at_target = {n for n, p in moment.belief.located.items() if kind_of(p) == goal.target}
    lamps = {n for n in moment.known if kind_of(n) == goal.lamp}
    usable = {moment.stage.item, *lamps, *(at_target if goal.count > 1 else ())}
    return distance(moment.state, usable) - distance(moment.after(case.action), usable)


@pytest.mark.parametrize("size", SAMPLES)
def test_agreement(size: tuple[int, int, int]) -> None:
    """How often judge and oracle say the same where all is known: of actions that change the
    distance, an error should lengthen the way and nothing else. The others are up to the judge."""
    counts = Counter[str]()
    for case in informed(sample(*size)):
        if case.gain == 0:
            counts["error" if case.judged.is_error else "no error"] += 1
        else:
            counts["same" if case.judged.is_error == (case.gain < 0) else "other"] += 1
    moments = len({id(case.moment) for case in sample(*size)})
    decided = counts["same"] + counts["other"]
    print(
        f"\n{moments} states, {len(sample(*size))} actions; where all is known, {decided} change "
        f"the distance: {counts['same'] / decided:.1%} agree; of those that do not, "
        f"{counts['error']} are errors and {counts['no error']} are none"
    )
    assert counts["same"] >= 0.9 * decided
