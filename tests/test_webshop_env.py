"""The WebShop environment keeps the contract of every environment."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webshop_shops import chairs, write

from step_ray.envs import make_env
from step_ray.envs.base import Build, EnvError, Task, TextEnv
from step_ray.envs.webshop.env import INSTRUCTION, WebShopEnv

PRODUCTS = 120


@pytest.fixture
def env() -> WebShopEnv:
    return WebShopEnv(products=PRODUCTS)


def transcript(env: WebShopEnv, task: Task, seed: int, steps: int = 12) -> list[Any]:
    """What random actions give; some are nonsense."""
    rng = random.Random(seed)
    seen: list[Any] = [env.reset(task, seed)]
    for _ in range(steps):
        action = rng.choice([*env.admissible(), "jump", "click[nothing]"])
        seen += [action, env.step(action), env.judge(action), env.expert()]
    return seen


def test_it_is_a_text_env_and_made_by_name(env: WebShopEnv) -> None:
    assert isinstance(env, TextEnv)
    made = make_env("webshop", products=PRODUCTS)
    assert isinstance(made, WebShopEnv)
    assert made.inline
    assert made.shop is env.shop


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "html"}, "mode is 'html'; .* text, text_rich"),
        ({"page_size": 0}, "page_size is 0; a page of results has at least one"),
        ({"goals": "some"}, "goals is 'some'; .* synthetic, human"),
        ({"tagger": "ear"}, "unknown tagger 'ear'"),
        ({"products": 0}, "at least one product, not 0"),
        ({"wheels": 4}, "wheels"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvError, match=message):
        make_env("webshop", **{"products": 2, **options})


@pytest.mark.parametrize("goals", ["synthetic", "human"])
def test_tasks_are_stable_and_shared_out(goals: Any) -> None:
    env = WebShopEnv(products=PRODUCTS, goals=goals)
    splits = {name: list(env.tasks(name)) for name in ("train", "dev", "test")}
    ids = [task.id for tasks in splits.values() for task in tasks]
    assert len(ids) == len(set(ids)) == len(env.shop.goals)
    assert splits["test"][0].id == f"{goals}-0"
    for name, tasks in splits.items():
        assert {(task.env, task.split) for task in tasks} == {("webshop", name)}
        for task in tasks[:20]:
            env.reset(task)
            assert env.session.goal.category == task.type
    again = WebShopEnv(products=PRODUCTS, goals=goals).tasks("train")
    assert list(again) == splits["train"]
    assert again[1:3] == splits["train"][1:3]
    with pytest.raises(EnvError, match="unknown split 'valid_seen'"):
        env.tasks("valid_seen")


@pytest.mark.parametrize("name", ["synthetic-999999", "human-0", "synthetic-", "x", "synthetic--1"])
def test_tasks_of_other_shops_are_refused(name: str, env: WebShopEnv) -> None:
    with pytest.raises(EnvError, match=r"is not a task of split test in this shop, .* synthetic-0"):
        env.reset(Task(name, "webshop", "test", "garden"))


def test_the_instruction_is_short_and_states_the_form(env: WebShopEnv) -> None:
    assert len(INSTRUCTION.split()) <= 80
    assert INSTRUCTION.endswith("Thought: your reasoning\nAction: your action")
    first, second = (env.reset(task) for task in env.tasks("test")[:2])
    assert first.instruction == second.instruction == INSTRUCTION
    assert first.text.startswith("WebShop [SEP] Instruction: [SEP] ")
    assert first.text != second.text


@pytest.mark.parametrize("mode", ["text", "text_rich"])
def test_the_expert_buys_well_and_is_judged_right(mode: Any) -> None:
    env = WebShopEnv(products=PRODUCTS, mode=mode)
    for task in env.tasks("test")[:15]:
        env.reset(task)
        while (turn := env.expert()) is not None:
            assert turn.action.lower() in env.admissible() or turn.action.startswith("search[")
            assert not env.judge(turn.action).is_error
            result = env.step(turn.action)
            assert result.valid
        assert result.terminated
        assert result.reward == 1.0


@pytest.mark.parametrize("size", [1, 3])
def test_pages_of_results_may_be_shorter(size: int) -> None:
    env = WebShopEnv(products=PRODUCTS, page_size=size)
    assert env.build().dialect == f"text-{size}"
    for task in env.tasks("test")[:8]:
        env.reset(task)
        while (turn := env.expert()) is not None:
            assert not env.judge(turn.action).is_error
            result = env.step(turn.action)
            if env.session.page == "results":
                assert len(env.session.shown) <= size
                assert result.observation.count("[SEP] B0") == len(env.session.shown)
        assert result.reward == 1.0


def test_the_next_page_of_a_shorter_list_begins_where_it_ends() -> None:
    whole, short = WebShopEnv(products=PRODUCTS), WebShopEnv(products=PRODUCTS, page_size=5)
    for env in (whole, short):
        env.reset(env.tasks("test")[0])
        env.step("search[chair]")
    first = short.session.shown
    short.step("click[next >]")
    assert first + short.session.shown == whole.session.shown


def test_nothing_happens_after_the_purchase(env: WebShopEnv) -> None:
    env.reset(env.tasks("test")[0])
    for action in (env.admissible()[0], "click[next >]", "click[< prev]"):
        assert env.step(action).reward == 0.0
    env.step(next(action for action in env.admissible() if action.startswith("click[b0")))
    bought = env.step("click[buy now]")
    assert bought.terminated
    assert 0.0 <= bought.reward <= 1.0
    after = env.step("search[more]")
    assert (after.observation, after.reward, after.terminated, after.valid) == (
        bought.observation,
        bought.reward,
        True,
        False,
    )
    assert env.admissible() == []
    assert env.expert() is None
    assert env.judge("search[more]").is_error


def test_build_names_mode_and_what_rewards_depend_on(tmp_path: Path) -> None:
    def build(**options: Any) -> Build:
        return WebShopEnv(write(tmp_path), **options).build()

    plain = build()
    assert plain == build() == Build("webshop-1", chairs().digest, "text")
    assert build(mode="text_rich") == Build("webshop-1", plain.data_hash, "text_rich")
    others = [build(goals="human"), build(price_seed=4), WebShopEnv(products=24).build()]
    assert len({other.data_hash for other in [plain, *others]}) == 4


def test_closed_and_unstarted_environments_say_so(env: WebShopEnv) -> None:
    with pytest.raises(EnvError, match=r"call reset\(task\) first"):
        env.step("search[x]")
    task = env.tasks("test")[0]
    env.reset(task)
    env.close()
    env.close()
    for use in (env.admissible, env.build, lambda: env.reset(task), lambda: env.tasks("test")):
        with pytest.raises(EnvError, match="closed"):
            use()


def test_environments_made_at_once_share_one_shop() -> None:
    made: list[WebShopEnv] = []
    threads = [
        threading.Thread(target=lambda: made.append(WebShopEnv(products=30, seed=77)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(env.shop) for env in made}) == 1


@settings(max_examples=20, deadline=None)
@given(first=st.integers(0, 15), second=st.integers(0, 15), seed=st.integers(0, 1000))
def test_reset_after_anything_is_a_reset(first: int, second: int, seed: int) -> None:
    used, fresh = WebShopEnv(products=PRODUCTS), WebShopEnv(products=PRODUCTS)
    tasks = used.tasks("test")
    transcript(used, tasks[first], seed + 1)
    assert transcript(used, tasks[second], seed) == transcript(fresh, tasks[second], seed)


@settings(max_examples=30, deadline=None)
@given(
    task=st.integers(0, 15), seed=st.integers(0, 1000), mode=st.sampled_from(["text", "text_rich"])
)
def test_a_fork_goes_on_by_itself(task: int, seed: int, mode: Any) -> None:
    env = WebShopEnv(products=PRODUCTS, mode=mode)
    transcript(env, env.tasks("test")[task], seed, steps=6)
    child = env.fork()
    rng = random.Random(seed)
    for _ in range(4):
        action = rng.choice([*child.admissible(), "jump"])
        kept = (env.session.observation, env.admissible(), env.expert(), env.judge(action))
        answer = child.fork().step(action)
        assert child.step(action) == answer
        assert kept == (env.session.observation, env.admissible(), env.expert(), env.judge(action))


@settings(max_examples=100, deadline=None)
@given(
    actions=st.lists(st.one_of(st.text(max_size=40), st.text(max_size=20).map("search[{}]".format)))
)
def test_no_text_raises(actions: list[str]) -> None:
    env = WebShopEnv(products=PRODUCTS)
    env.reset(env.tasks("test")[0])
    for action in actions:
        env.judge(action)
        result = env.step(action)
        assert not result.terminated
        assert result.valid or result.observation
