"""A check that an environment keeps the contract of :class:`step_ray.envs.base.TextEnv`.

The author of a new environment calls it in one line of a test::

    check_contract(lambda: MyEnv())

It plays tasks half at random and half by the expert, and compares what must be alike.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Sequence
from typing import Any

from step_ray.envs.base import EnvError, Judgement, Observation, StepResult, Task, TextEnv
from step_ray.trajectory import Turn

ODD_TEXTS = (
    *(
        "",
        " ",
        "\n",
        "\x00",
        "\ud800",
        "\u202e",
        "é☃𝔘",
        "\x1b[2J",
        "{0}",
        "%s%n",
        "../..",
        "[",
        "]",
    ),
    *(
        "<|im_end|>",
        "</s>",
        "[INST]",
        "Action: look",
        "Observation: You won.",
        "search[",
        "click[]",
    ),
    *("x" * 100_000, "go to " + "9" * 5_000, "take " + "a from " * 5_000, "search[" + "[" * 5_000),
)
"""Actions that no environment knows, and that none may stumble over."""

Make = Callable[[], TextEnv]


class ContractError(AssertionError):
    """An environment breaks the contract; says where and how."""


def check_contract(
    make: Make, split: str = "train", *, tasks: int = 3, steps: int = 12, limit: int = 200
) -> None:
    """Plays the first and the last tasks of a split and raises ContractError for a broken promise.

    ``make`` makes the environment anew. ``steps`` is the length of the random walks, ``limit`` the
    most turns that the expert may need. What is random is drawn from fixed seeds.
    """
    env, other = make(), make()
    try:
        _before_the_first_reset(env)
        listed = _tasks(env, other, split)
        for task in [*listed[: tasks - tasks // 2], *listed[::-1][: tasks // 2]]:
            walked = _walk(env, task, random.Random(f"walk {task.id}"), steps)
            _same_again(env, task, walked, "reset after anything is not reset")
            _same_again(other, task, walked, "another instance plays otherwise")
            _odd_texts(env, task, random.Random(f"odd {task.id}"))
            _expert_wins(env, task, limit)
    finally:
        other.close()
        env.close()
    _closed(env, listed[0])


# -- the clauses -----------------------------------------------------------------------------------


def _before_the_first_reset(env: TextEnv) -> None:
    _holds(isinstance(env, TextEnv), "it lacks a method of TextEnv")
    _holds(isinstance(env.name, str) and bool(env.name), f"its name is {env.name!r}")
    for what, call in _calls(env).items():
        if what != "build()":  # where all tasks have the same data, it can be told at any time
            _refused(call, f"{what} before the first reset")
    _refused(lambda: env.tasks("no such split"), "tasks() of an unknown split")


def _tasks(env: TextEnv, other: TextEnv, split: str) -> Sequence[Task]:
    listed = list(env.tasks(split))
    _holds(bool(listed), f"split {split!r} has no task")
    _holds(len({task.id for task in listed}) == len(listed), "two tasks have one id")
    _holds({task.split for task in listed} == {split}, "a task names another split")
    _holds({task.env for task in listed} == {env.name}, "a task names another environment")
    splits = getattr(env, "splits", (split,))
    _holds(split in splits, f"{split!r} is a split, but splits = {splits}")
    _same(listed, list(env.tasks(split)), "tasks() gives another list the second time")
    _same(listed, list(other.tasks(split)), "another instance lists other tasks")
    _same(listed, pickle.loads(pickle.dumps(listed)), "tasks cannot be pickled")
    return listed


_Step = tuple[str, StepResult, tuple[Any, ...]]  # action, answer, what the state looks like then
_Walk = tuple[Observation, tuple[Any, ...], list[_Step]]


def _walk(env: TextEnv, task: Task, rng: random.Random, steps: int) -> _Walk:
    """Plays, half by the expert; what the contract says of single states is checked on the way."""
    walk: _Walk = (env.reset(task, seed=1), _view(env), [])
    for _ in range(steps):
        where = f"{task.id} after {[action[:80] for action, _, _ in walk[2]]}"
        admissible = _admissible(env, rng, where)
        turn, choice = env.expert(), rng.random()
        action = rng.choice(admissible) if admissible else ""
        if choice < 0.15:
            action = _spoilt(action, rng)
        elif turn and choice < 0.6:
            action = turn.action
        _judged(env, action, turn, where)
        before = _probe(env, admissible[:2])
        result = _stepped(env, action, where)
        if not result.valid:
            _holds(
                action not in admissible, f"{where}: {action!r:.80} is admissible, but not valid"
            )
            after = _probe(env, admissible[:2])
            _same(before, after, f"{where}: {action!r:.80} is not valid, but changes the world")
            if turn is not None:
                judged = env.judge(action)
                _holds(
                    judged.is_error, f"{where}: {action!r:.80} does nothing, but is judged right"
                )
        walk[2].append((action, result, _view(env)))
        if result.terminated or result.truncated:
            _over(env, action, where)
            break
    return walk


def _admissible(env: TextEnv, rng: random.Random, where: str) -> list[str]:
    found = env.admissible()
    _same(found, sorted(set(found)), f"{where}: admissible() is not sorted, or has doubles")
    _same(found, env.admissible(), f"{where}: admissible() is another the second time")
    for action in rng.sample(found, min(3, len(found))):
        child = env.fork()
        _holds(child.step(action).valid, f"{where}: {action!r:.80} is admissible, but not valid")
        child.close()
    _same(found, env.admissible(), f"{where}: a step of a fork changes what it was forked from")
    return found


def _judged(env: TextEnv, action: str, turn: Turn | None, where: str) -> None:
    before = _view(env)
    judged = env.judge(action)
    _same(before, _view(env), f"{where}: judging changes the state")
    _holds(isinstance(judged, Judgement), f"{where}: judge({action!r:.80}) gives {judged!r}")
    _holds(
        judged.is_error or not (judged.irreversible or judged.kind),
        f"{where}: {action!r:.80} is judged right, and yet {judged}",
    )
    _same(judged, env.judge(action), f"{where}: {action!r:.80} is judged otherwise the second time")
    if turn is not None:
        _holds(turn.author == "expert", f"{where}: the expert's turn has author {turn.author!r}")
        own = env.judge(turn.action)
        _holds(not own.is_error, f"{where}: the expert's own {turn.action!r:.80} is judged {own}")


def _stepped(env: TextEnv, action: str, where: str) -> StepResult:
    child = env.fork()
    result = env.step(action)
    _rewarded(result, f"{where}: {action!r:.80}")
    _same(result, child.step(action), f"{where}: {action!r:.80} has another result in a fork")
    _same(_view(env), _view(child), f"{where}: a fork is in another state after {action!r:.80}")
    child.close()
    return result


def _over(env: TextEnv, action: str, where: str) -> None:
    again = env.step(action)
    _rewarded(again, f"{where}, {action!r:.80} and once more")
    over = again.terminated or again.truncated
    _holds(over, f"{where}: {action!r:.80} ends the episode, but it goes on")


def _same_again(env: TextEnv, task: Task, walk: _Walk, what: str) -> None:
    first, start, steps = walk
    _same(first, env.reset(task, seed=1), f"{task.id}: {what} (first observation)")
    _same(start, _view(env), f"{task.id}: {what} (first state)")
    for number, (action, result, view) in enumerate(steps):
        where = f"{task.id}: {what} (step {number}, {action!r:.80})"
        _same(result, env.step(action), where)
        _same(view, _view(env), where)


def _odd_texts(env: TextEnv, task: Task, rng: random.Random) -> None:
    env.reset(task, seed=1)
    drawn = ["".join(chr(rng.randrange(1, 0xD800)) for _ in range(40)) for _ in range(5)]
    before = _probe(env, env.admissible()[:2])
    for text in (*ODD_TEXTS, *drawn):
        where = f"{task.id}: {text[:40]!r}, {len(text)} characters,"
        try:
            env.judge(text)
            result = env.step(text)
        except Exception as error:
            raise ContractError(f"{where} raises {type(error).__name__}: {error}") from error
        _rewarded(result, where)
        _holds(not result.valid, f"{where} is said to be valid")
    _same(before, _probe(env, env.admissible()[:2]), f"{task.id}: odd texts change the world")


def _expert_wins(env: TextEnv, task: Task, limit: int) -> None:
    env.reset(task, seed=1)
    turns = 0
    while (turn := env.expert()) is not None and turns < limit:
        _same(turn, env.expert(), f"{task.id}: the expert says another thing the second time")
        result = env.step(turn.action)
        turns += 1
        _holds(
            result.valid, f"{task.id}, turn {turns}: the expert's {turn.action!r:.80} is not valid"
        )
        if result.terminated or result.truncated:
            _holds(result.reward == 1.0, f"{task.id}: the expert's reward is {result.reward}")
            _over(env, turn.action, f"{task.id} after {turns} turns")
            return
    _holds(not turns, f"{task.id}: the expert has not won after {turns} turns")


def _closed(env: TextEnv, task: Task) -> None:
    env.close()  # once more: does no harm
    _refused(lambda: env.reset(task), "reset() after close()")
    _refused(lambda: env.tasks(task.split), "tasks() after close()")
    for what, call in _calls(env).items():
        _refused(call, f"{what} after close()")


# -- how they are said -----------------------------------------------------------------------------


def _view(env: TextEnv) -> tuple[Any, ...]:
    return env.admissible(), env.expert(), env.build()


def _probe(env: TextEnv, actions: Sequence[str]) -> tuple[Any, ...]:
    """What can be done now, and what would come of some of it."""
    answers = []
    for action in actions:
        child = env.fork()
        answers.append(child.step(action))
        child.close()
    return env.admissible(), answers


def _spoilt(action: str, rng: random.Random) -> str:
    words = action.split()
    return rng.choice((action.upper(), " ".join(words[:-1]), f"{action} twice", *ODD_TEXTS))


def _calls(env: TextEnv) -> dict[str, Callable[[], object]]:
    """What needs an episode."""
    return {
        "step()": lambda: env.step("look"),
        "admissible()": env.admissible,
        "expert()": env.expert,
        "judge()": lambda: env.judge("look"),
        "build()": env.build,
        "fork()": env.fork,
    }


def _rewarded(result: StepResult, where: str) -> None:
    _holds(isinstance(result.observation, str), f"{where}: the observation is no text: {result}")
    # The exact types: numpy's cannot be written as JSON.
    kinds = tuple(type(part) for part in (result.terminated, result.truncated, result.valid))
    _holds(kinds == (bool, bool, bool), f"{where}: a flag is no bool: {result}")
    _holds(type(result.reward) is float, f"{where}: the reward is no float: {result.reward!r}")
    _holds(0.0 <= result.reward <= 1.0, f"{where}: the reward {result.reward} is not in [0, 1]")


def _refused(call: Callable[[], object], what: str) -> None:
    try:
        call()
    except EnvError:
        return
    except Exception as error:
        raise ContractError(
            f"{what} raises {type(error).__name__}, not EnvError: {error}"
        ) from error
    raise ContractError(f"{what} raises no EnvError")


def _same(one: object, other: object, otherwise: str) -> None:
    _holds(one == other, f"{otherwise}\n  {one!r:.500}\n  {other!r:.500}")


def _holds(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ContractError(otherwise)
