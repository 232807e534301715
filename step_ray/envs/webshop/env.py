"""WebShop as a text environment.

The reward is 0 until the purchase, which ends the episode and gives the reward of WebShop, in
[0, 1]. There is no step limit here. Actions are ``search[words]``, which works on every page, and
``click[value]`` with a value that the page shows; anything else changes nothing and is invalid.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import get_args, overload

from step_ray.envs.base import Build, EnvError, Judgement, Observation, StepResult, Task
from step_ray.envs.webshop.engine import PRICE_SEED, Engine
from step_ray.envs.webshop.expert import next_turn
from step_ray.envs.webshop.generate import generate_catalogue
from step_ray.envs.webshop.goals import SPLITS, GoalKind, GoalTable
from step_ray.envs.webshop.judge import judge
from step_ray.envs.webshop.lists import listed_goals
from step_ray.envs.webshop.pages import PER_PAGE, Mode
from step_ray.envs.webshop.session import Session
from step_ray.envs.webshop.visits import Place, place_of
from step_ray.trajectory import Turn

ENGINE = "webshop-1"
INSTRUCTION = """\
You are in an online shop and buy the product that fits the instruction on the page best.
Actions: search[WORDS], on any page; click[VALUE], where VALUE is a button, a product's code or \
an option's value that the page shows. Choose the options asked for, then click[buy now]: it can \
be clicked only once and ends the task.
Answer in this form:
Thought: your reasoning
Action: your action"""
"""What the agent is told first; the same for every task."""

_CLOSED = "this environment is closed; make a new one"
_making = threading.Lock()


class WebShopEnv:
    """WebShop's goals as episodes.

    ``data``: a folder with WebShop's three files (or the path of its ``items_shuffle*.json``); None
    for a generated catalogue of ``products`` products drawn from ``seed``. ``mode``: how pages are
    written, ``text`` or ``text_rich``. ``goals``: ``synthetic`` or ``human``. ``tagger``: what
    finds the nouns of titles, ``rule`` or ``spacy``. ``page_size``: products on a page of results,
    10 in the original. ``price_seed`` draws prices and price caps. All environments of a process
    that are made alike share one shop. ``lists``: a folder with ETO's lists of goals, which are the
    splits then, see ``lists.listed_goals``; None for the original's splits.
    """

    name = "webshop"
    splits: tuple[str, ...] = SPLITS
    inline = True

    def __init__(
        self,
        data: str | Path | None = None,
        *,
        mode: Mode = "text",
        goals: GoalKind = "synthetic",
        tagger: str = "rule",
        page_size: int = PER_PAGE,
        price_seed: int = PRICE_SEED,
        products: int = 1000,
        seed: int = 0,
        lists: str | Path | None = None,
    ) -> None:
        for option, value, known in (("mode", mode, Mode), ("goals", goals, GoalKind)):
            if value not in get_args(known):
                allowed = ", ".join(get_args(known))
                raise EnvError(f"{option} is {value!r}; WebShop's {option} is one of {allowed}")
        if page_size < 1:
            raise EnvError(f"page_size is {page_size}; a page of results has at least one product")
        self._mode: Mode = mode
        self._page_size = page_size
        with _making:
            self._engine: Engine | None = (
                _generated(products, seed, goals, tagger, price_seed)
                if data is None
                else _loaded(Path(data), goals, tagger, price_seed)
            )
        self._listed: dict[str, tuple[int, ...]] | None = None
        if lists is not None:
            self._listed = listed_goals(Path(lists), len(self.shop.goals))
            self.splits = tuple(self._listed)
        self._session: Session | None = None
        self._visited: frozenset[Place] = frozenset()

    def tasks(self, split: str) -> Sequence[Task]:
        """The goals of ``train``, ``dev`` or ``test`` by index; ETO's lists have no ``dev``. A
        task's type is its category."""
        return _Tasks(self.shop.goals, split, self._places(split))

    def reset(self, task: Task, seed: int = 0) -> Observation:
        """Starts an episode on the search page. ``seed`` changes nothing."""
        engine = self.shop
        kind, _, number = task.id.partition("-")
        places = self._places(task.split)
        if kind != engine.goals.kind or not number.isdecimal() or int(number) not in places:
            some = ", ".join(f"{engine.goals.kind}-{place}" for place in places[:2])
            raise EnvError(
                f"{task.id!r} is not a task of split {task.split} in this shop, which has "
                f"{len(places)} such as {some}"
            )
        self._session = session = engine.session(int(number), self._mode, self._page_size)
        self._visited = frozenset({place_of(session)})
        return Observation(INSTRUCTION, session.observation)

    def step(self, action: str) -> StepResult:
        """Executes an action; after the purchase nothing happens any more."""
        session = self.session
        reward, done, valid = session.step(action)
        self._visited |= {place_of(session)}
        return StepResult(session.observation, reward, done, False, valid)

    def admissible(self) -> list[str]:
        """Every valid click, and of all the valid searches that for the instruction's words."""
        return self.session.admissible()

    def expert(self) -> Turn | None:
        """The expert's turn from the present page; None after the purchase."""
        return next_turn(self.session, self.shop, self._visited)

    def judge(self, action: str) -> Judgement:
        """Judges an action by the goal; changes nothing."""
        return judge(self.session, self.shop, action, self._visited)

    def build(self) -> Build:
        """Engine, hash of catalogue, prices, goals and tagger, observation mode (and page size)."""
        size = "" if self._page_size == PER_PAGE else f"-{self._page_size}"
        return Build(ENGINE, self.shop.digest, f"{self._mode}{size}")

    def fork(self) -> WebShopEnv:
        """An independent copy, in microseconds."""
        child = copy.copy(self)
        child._session = self.session.fork()
        return child

    def close(self) -> None:
        """Ends the use of this environment."""
        self._engine = self._session = None

    def _places(self, split: str) -> Sequence[int]:
        """Indices of a split's goals. Raises EnvError for an unknown split."""
        if self._listed is None:
            return self.shop.goals.split(split)
        if split not in self._listed:
            have = ", ".join(self._listed)
            raise EnvError(f"ETO's lists of goals have no split {split!r}; they have {have}")
        return self._listed[split]

    @property
    def shop(self) -> Engine:
        """The shop, shared by all environments made alike."""
        if self._engine is None:
            raise EnvError(_CLOSED)
        return self._engine

    @property
    def session(self) -> Session:
        """The visit being made: page, choices and goal. EnvError if there is none."""
        if self._session is None:
            why = "no goal is being pursued; call reset(task) first"
            raise EnvError(why if self._engine else _CLOSED)
        return self._session


class _Tasks(Sequence[Task]):
    """The tasks of a split, made when they are asked for."""

    def __init__(self, goals: GoalTable, split: str, places: Sequence[int]) -> None:
        self._goals, self._split, self._places = goals, split, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = self._places[index]
        name = f"{self._goals.kind}-{place}"
        return Task(name, WebShopEnv.name, self._split, self._goals.product(place).category)


@lru_cache(maxsize=8)
def _loaded(path: Path, goals: GoalKind, tagger: str, price_seed: int) -> Engine:
    return Engine.from_folder(path, goals=goals, tagger=tagger, price_seed=price_seed)


@lru_cache(maxsize=8)
def _generated(products: int, seed: int, goals: GoalKind, tagger: str, price_seed: int) -> Engine:
    if products < 1:
        raise EnvError(f"a catalogue has at least one product, not {products}")
    return Engine.from_catalogue(
        *generate_catalogue(products, seed), goals=goals, tagger=tagger, price_seed=price_seed
    )
