"""A pool lends environments again and again, and none that is lost, dead or worn."""

from __future__ import annotations

import threading

from doubles import Corridor

from step_ray.envs.base import TextEnv
from step_ray.envs.pool import FATES, EnvPool


class Frail(Corridor):
    alive = True
    worn = False


def fates(**counted: int) -> dict[str, int]:
    return {fate: counted.get(fate, 0) for fate in FATES}


def test_what_is_given_back_is_lent_again() -> None:
    pool = EnvPool(Corridor)
    assert pool.take() is None
    pool.add()
    env = pool.take()
    assert env is not None
    assert pool.take() is None
    assert pool.give_back(env, lost=False) == fates()
    assert pool.take() is env
    assert pool.give_back(env, lost=True) == fates(replaced=1)
    assert pool.take() is None
    assert not env.closed.is_set(), "that is for whoever lost it"  # type: ignore[attr-defined]


def test_worn_ones_are_closed_after_their_episode() -> None:
    pool, env = EnvPool(Corridor), Frail()
    env.worn = True
    assert pool.give_back(env, lost=False) == fates(recycled=1)
    assert env.closed.wait(30)
    assert pool.take() is None


def test_one_that_died_meanwhile_is_not_lent() -> None:
    pool, dead, well = EnvPool(Corridor), Frail(), Frail()
    pool.add(well)
    pool.add(dead)
    dead.alive = False
    env: TextEnv | None = pool.take()
    assert env is well
    assert dead.closed.wait(30)
    assert pool.give_back(well, lost=False) == fates(replaced=1)


def test_engines_that_were_started_again_are_counted_once() -> None:
    class Engine(Corridor):
        died = 2

        def restarts(self) -> int:
            died, self.died = self.died, 0
            return died

    pool, env = EnvPool(Corridor), Engine()
    assert pool.give_back(env, lost=False) == fates(restarted=2)
    assert pool.give_back(env, lost=True) == fates(replaced=1)


def test_closing_waits_no_longer_than_it_is_told() -> None:
    go = threading.Event()

    class Stubborn(Corridor):
        def close(self) -> None:
            go.wait(60)
            super().close()

    pool, stubborn, well = EnvPool(Corridor), Stubborn(), Corridor()
    pool.add(stubborn)
    pool.add(well)
    pool.close(patience=0.1)
    assert well.closed.wait(30)
    assert not stubborn.closed.is_set()
    go.set()
    assert stubborn.closed.wait(30)
