"""``make bench-serving``: monitored episodes on vLLM, in our way and in two others, in one run.

Prints one JSON object as its last line and writes it to ``docs/benchmarks/serving.json``. The same
student (the packaged tiny model) plays the same generated ALFWorld games under the eyes of the same
teacher (the environment's expert) with the same vLLM engine on this machine's CPU:

- ``sequential``: one episode at a time, as ETO's collection of trajectories does it;
- ``lockstep``: batches of episodes that step together, as in verl-agent's roll-outs: every step
  waits for the longest reply, a batch for its longest episode (one that is over leaves its batch);
- ``ours``: as many episodes in flight as a batch has, each going on as soon as it can.

All three are our own worker around one engine, so environments, prompts, teacher and sampling are
the same code; what differs is who waits for whom. The prefix cache is emptied before each. Replies
are drawn by seeds that follow from the episode, and differ where rounding does; ``turns`` says by
how much. A ratio is ours / theirs in episodes a second of wall time: run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heading import committed, heading, publish
from measure import Cost, rounded

from step_ray.envs import make_env
from step_ray.models.base import ChatModel, Reply, Sampling
from step_ray.models.traffic import rates
from step_ray.recipes.world import PACKAGED_MODEL
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.synthesis.worker import EpisodeWorker, WorkerSettings
from step_ray.teacher.expert import ExpertTeacher

SIDES = ("ours", "lockstep", "sequential")
SAMPLING = Sampling(1.0, 1.0, 96)
ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,  # compiling a model this small gains nothing
    "max_model_len": 4096,
    "block_size": 32,
    "kv_cache_memory_bytes": 2**30,
    "disable_log_stats": True,
}


class Engine:
    """vLLM in a loop of its own; asked from any other."""

    fingerprint = "student"

    def __init__(self, episodes: int) -> None:
        from step_ray.models.vllm import VllmModel

        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.lengths: list[int] = []

        async def start() -> Any:
            return VllmModel(PACKAGED_MODEL, engine={**ENGINE, "max_num_seqs": episodes})

        self._model = self._do(start())

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        asked = self._model.chat(messages, sampling, schema)
        reply: Reply = await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(asked, self._loop)
        )
        self.lengths.append(reply.completion_tokens)
        return reply

    def forget(self) -> None:
        """Empties the prefix cache."""
        self._do(self._model._engine.reset_prefix_cache())
        self.lengths.clear()

    def end(self) -> None:
        """Not called close: a worker closes its models, and this one is to serve the next."""

        async def close() -> None:
            self._model.close()

        self._do(close())

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class Lockstep:
    """Asks for the replies of all running episodes together, and gives them out together."""

    fingerprint = "student"

    def __init__(self, model: ChatModel) -> None:
        self._model = model
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Reply]]] = []
        self._step: asyncio.Task[None] | None = None
        self.running = 0

    async def chat(self, *asked: Any) -> Reply:
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answered))
        self._look()
        return await answered

    def over(self, *_: Any) -> None:
        """One of the episodes is."""
        self.running -= 1
        self._look()

    def _look(self) -> None:
        if self._waiting and len(self._waiting) == self.running:
            batch, self._waiting = self._waiting, []
            self._step = asyncio.create_task(self._ask(batch))

    async def _ask(self, batch: list[tuple[tuple[Any, ...], asyncio.Future[Reply]]]) -> None:
        replies = await asyncio.gather(*(self._model.chat(*asked) for asked, _ in batch))
        for (_, answered), reply in zip(batch, replies, strict=True):
            answered.set_result(reply)


def main() -> None:
    given = _arguments()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    options = {"games": {"train": given.episodes, "valid_seen": 0, "valid_unseen": 0}, "seed": 5}
    env = make_env("alfworld", **options)
    specs = [
        EpisodeSpec(
            env="alfworld",
            data="benchmark",
            split=task.split,
            task=task.id,
            task_type=task.type,
            seed=0,
            student="student",
            teacher="expert",
            max_steps=given.max_steps,
        )
        for task in env.tasks("train")
    ]
    result: dict[str, Any] = {
        **heading("serving"),
        "settings": {
            "episodes": len(specs),
            "in_flight": given.in_flight,
            "max_steps": given.max_steps,
            "max_tokens": SAMPLING.max_tokens,
            "temperature": SAMPLING.temperature,
            "engine": ENGINE,
        },
    }
    engine = Engine(given.in_flight)
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    try:
        _play("ours", specs[: given.in_flight], engine, options, given)  # warms everything up
        for side in (*SIDES, *("ours", "lockstep") * (given.rounds - 1)):
            print(f"measuring {side} ...", file=sys.stderr, flush=True)
            found[side].append(_play(side, specs, engine, options, given))
    finally:
        engine.end()
    sides = {side: _mean(runs) for side, runs in found.items()}
    speed = {side: row["episodes_per_second"] for side, row in sides.items()}
    result |= {
        "ratio_sequential": rounded(speed["ours"] / speed["sequential"]),
        "ratio_lockstep": rounded(speed["ours"] / speed["lockstep"]),
        "prefix_cache_hit_rate": sides["ours"]["prefix_cache_hit_rate"],
        "sides": sides,
        "rounds": found,
    }
    publish(result, given.out)


def _play(
    side: str,
    specs: Sequence[EpisodeSpec],
    engine: Engine,
    options: Mapping[str, Any],
    given: argparse.Namespace,
) -> dict[str, Any]:
    """Plays all episodes in the way of one side."""
    engine.forget()
    together = Lockstep(engine)
    student: ChatModel = together if side == "lockstep" else engine
    settings = WorkerSettings(
        env="alfworld",
        env_options=options,
        students={"student": ""},
        sampling=SAMPLING,
        envs=1 if side == "sequential" else given.in_flight,
    )
    worker = EpisodeWorker(settings, lambda path: student, ExpertTeacher(), together.over)
    size = given.in_flight if side == "lockstep" else len(specs)
    cost, rows = Cost(), []
    try:
        with cost.adding(len(specs)):
            for start in range(0, len(specs), size):
                block = specs[start : start + size]
                together.running = len(block)
                rows += worker.run_block(block)
    finally:
        worker.close()
    asked: dict[str, float] = {}
    for row in rows:
        for name, count in row["student"].items():
            asked[name] = asked.get(name, 0) + count
    turns = [row["student"].get("asked", 0) for row in rows]
    replies = sorted(engine.lengths)
    return {
        "episodes_per_second": rounded(len(rows) / cost.wall),
        "turns_per_second": rounded(sum(turns) / cost.wall),
        "reply_tokens_per_second": rounded(sum(replies) / cost.wall),
        "seconds": rounded(cost.wall),
        "cpu_seconds": rounded(cost.cpu),
        "turns": sum(turns),
        "success": sum(row["success"] for row in rows),
        "turns_of_an_episode": _spread(turns),
        "tokens_of_a_reply": _spread(replies),
        **rates(asked),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "mean": rounded(statistics.fmean(ordered)),
        "median": ordered[len(ordered) // 2],
        "p95": ordered[int(0.95 * (len(ordered) - 1))],
        "longest": ordered[-1],
    }


def _mean(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The first run with the speeds, seconds and shares of the mean of all."""
    means = {
        name: rounded(statistics.fmean(run[name] for run in runs))
        for name, value in runs[0].items()
        if isinstance(value, int | float)
    }
    return {**runs[0], **means}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--episodes", type=int, default=96)
    parser.add_argument("--in-flight", type=int, default=32, help="episodes at once, of a batch")
    parser.add_argument("--max-steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=2, help="of the two fast sides")
    parser.add_argument("--out", type=Path, help="file to write (default: docs/benchmarks)")
    given = parser.parse_args()
    if given.out is None and len(sys.argv) == 1:
        given.out = committed("serving")
    return given


if __name__ == "__main__":
    main()
