"""Playing generated shops: engines made once, experts, and visits that lose their way."""

from __future__ import annotations

import random
from functools import cache

from step_ray.envs.webshop.engine import Engine
from step_ray.envs.webshop.expert import next_turn
from step_ray.envs.webshop.generate import generate_catalogue
from step_ray.envs.webshop.goals import GoalKind
from step_ray.envs.webshop.pages import BUY
from step_ray.envs.webshop.session import Session
from step_ray.envs.webshop.visits import Place, place_of
from step_ray.trajectory import Turn


@cache
def generated_shop(goals: GoalKind = "synthetic", products: int = 1000, seed: int = 0) -> Engine:
    return Engine.from_catalogue(*generate_catalogue(products, seed), goals=goals)


class Visit:
    """A session and what was visited in it; ``memory`` False forgets all pages."""

    def __init__(self, session: Session, memory: bool = True) -> None:
        self.session = session
        self.engine = session.engine
        self.visited: set[Place] | None = {place_of(session)} if memory else None

    def step(self, action: str) -> bool:
        """Does an action; whether it was valid."""
        _, _, valid = self.session.step(action)
        if self.visited is not None:
            self.visited.add(place_of(self.session))
        return valid

    def expert(self) -> Turn | None:
        return next_turn(self.session, self.engine, self.visited)

    def finish(self, limit: int = 20) -> list[Turn]:
        """Lets the expert play on to the purchase; its turns."""
        turns = []
        while (turn := self.expert()) is not None:
            assert len(turns) < limit, [turn.action for turn in turns]
            assert self.step(turn.action), turn.action
            turns.append(turn)
        return turns

    def get_lost(self, rng: random.Random, steps: int) -> None:
        """Searches, clicks and nonsense at random, but no purchase."""
        for _ in range(steps):
            self.step(self.random_action(rng))

    def random_action(self, rng: random.Random) -> str:
        goals = self.engine.goals
        draw = rng.random()
        if draw < 0.12:
            words = goals[rng.randrange(len(goals))].instruction.split()
            return f"search[{' '.join(rng.sample(words, 3))}]"
        if draw < 0.22:
            return f"search[{' '.join(self.session.goal.instruction.split()[:6])}]"
        if draw < 0.26:
            return rng.choice(("click[nonsense]", "buy it", "search[]", ""))
        if draw < 0.5:
            turn = self.expert()
            if turn is not None and turn.action != f"click[{BUY}]":
                return turn.action
        clicks = [name for name in self.session.clickables if name != BUY]
        return f"click[{rng.choice(clicks)}]"
