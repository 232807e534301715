"""``step-ray verify``: proves that a run holds what it says.

Every published trajectory is replayed in the real engine, every trained span is decoded and
compared with the text that was meant, every file and id is checked against the manifests. The
checks share as little as possible with the code that made the data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from step_ray import store
from step_ray.config import RunConfig
from step_ray.envs.base import EnvError, Task, TextEnv
from step_ray.lineage import stage_records, verify_run
from step_ray.models.chat import clean
from step_ray.models.load import load_tokenizer
from step_ray.react import format_turn, neutralise_model_text
from step_ray.recipes.world import open_world
from step_ray.schema import from_row
from step_ray.synthesis.pairs import PAIRS, read_pairs
from step_ray.training import table
from step_ray.training.masks import verdict_weights
from step_ray.training.preferences import Pair
from step_ray.training.prepare import MODEL, SAMPLES
from step_ray.trajectory import Trajectory, content_hash

Said = Callable[[str, int], None]
"""Told what was checked, and how many of it."""


def verify(path: Path, said: Said = lambda what, count: None) -> list[str]:
    """Everything that is wrong with a run, as sentences that name the culprit; empty when sound.

    Raises RunError if ``path`` is no run.
    """
    problems = verify_run(path)
    records = [record for record in stage_records(path) if record["status"] == "done"]
    said("stages: fingerprints, inputs and outputs", len(records))
    if problems:  # what follows needs intact files
        return problems
    config = RunConfig.model_validate(json.loads((path / "config.json").read_text("utf-8")))
    env = open_world(config).make()
    trajectories: dict[str, Trajectory] = {}
    for folder in (path / record["name"] for record in records):
        if not (folder / "manifest.json").exists():
            continue
        problems += store.verify_store(folder)
        count = 0
        for row in store.read_rows(folder, kept_only=False):
            trajectory = from_row(row)
            trajectories[trajectory.id] = trajectory
            where = f"{folder.name}: trajectory {trajectory.id}"
            if content_hash(json.loads(row["spec"])) != trajectory.id:
                problems.append(f"{where}: its id is not the hash of its spec")
            problems += [f"{where}: {what}" for what in replay(trajectory, env)]
            count += 1
        said(f"{folder.name}: trajectories replayed in the engine", count)
    env.close()
    for record in records:
        folder = path / record["name"]
        if (folder / PAIRS).exists():
            pairs = list(read_pairs(folder / PAIRS))
            problems += [f"{folder.name}: {what}" for what in check_pairs(pairs, trajectories)]
            said(f"{folder.name}: pairs compared with their trajectories", len(pairs))
        if (folder / SAMPLES).exists():
            source = record["identity"]["inputs"].get("pairs")
            listed = list(read_pairs(path / source["stage"] / PAIRS)) if source else []
            found = list(check_samples(folder, trajectories, config, listed))
            problems += [f"{folder.name}: {what}" for what in found]
            said(f"{folder.name}: samples decoded", len(table.read(folder / SAMPLES)))
    return problems


def check_pairs(pairs: Sequence[Pair], published: Mapping[str, Trajectory]) -> Iterator[str]:
    """Each side of a pair has to be the beginning of a published trajectory, and the chosen one has
    to have more reward."""
    for pair in pairs:
        for side in (pair.chosen, pair.rejected):
            whole = published.get(side.id)
            if whole is None or whole.turns[: len(side.turns)] != side.turns:
                yield f"pair {pair.id}: {side.id} is no beginning of a trajectory of this run"
        if pair.chosen.reward <= pair.rejected.reward:
            yield f"pair {pair.id}: the chosen one has no more reward"


def replay(trajectory: Trajectory, env: TextEnv) -> Iterator[str]:
    """Plays a trajectory's actions again and yields every difference to what it says."""
    if trajectory.outcome in ("env_error", "env_timeout") and not trajectory.initial_observation:
        return  # it never began
    task = Task(trajectory.task, trajectory.env, trajectory.split, trajectory.task_type)
    try:
        first = env.reset(task, trajectory.provenance.seed)
    except EnvError as error:
        yield f"its task cannot be played: {error}"
        return
    if (first.instruction, first.text) != (trajectory.instruction, trajectory.initial_observation):
        yield "the episode begins with another text"
    if env.build().data_hash != trajectory.provenance.data_hash:
        yield "its game is another one than it was made with"
    reward, ended = 0.0, False
    for number, turn in enumerate(trajectory.turns, start=1):
        if not turn.executed:
            continue
        if ended:
            yield f"turn {number} comes after the end of the episode"
            return
        result = env.step(turn.action)
        reward, ended = result.reward, result.terminated or result.truncated
        said = (turn.observation, turn.valid, turn.reward)
        if said != (result.observation, result.valid, result.reward):
            yield (
                f"turn {number}, action {turn.action!r}: recorded {said}, the engine answers "
                f"{(result.observation, result.valid, result.reward)}"
            )
            return
    if reward != trajectory.reward or (ended and reward >= 1.0) != trajectory.success:
        yield f"its end is recorded as {trajectory.outcome} with reward {trajectory.reward:g}"


def check_samples(
    folder: Path,
    trajectories: Mapping[str, Trajectory],
    config: RunConfig,
    pairs: Sequence[Pair] = (),
) -> Iterator[str]:
    """Compares what a training stage's samples train with what the mask policy says they should:
    the texts of turns whose verdict has a weight, each with the end of its message. Of ``pairs``
    there are two samples each, and of the rejected one everything counts."""
    samples = table.read(folder / SAMPLES)
    tokenizer = load_tokenizer(folder / MODEL)
    weights = verdict_weights(config.training.mask)
    sides = {pair.id: (pair.chosen, pair.rejected) for pair in pairs}
    end = str(tokenizer.eos_token)
    for index, name in enumerate(samples.names):
        if name in sides:
            trajectory = sides[name][index % 2]
            mine = verdict_weights("none") if index % 2 else weights
        elif name in trajectories and not pairs:
            trajectory, mine = trajectories[name], weights
        else:
            yield f"sample {name}: no such trajectory is published in this run"
            continue
        start, stop = int(samples.offsets[index]), int(samples.offsets[index + 1])
        ids, trained = samples.ids[start:stop], samples.weights[start:stop] > 0
        runs = [
            tokenizer.decode([int(token) for token, _ in group], skip_special_tokens=False)
            for key, group in groupby(
                zip(ids, trained, strict=True), key=lambda pair: bool(pair[1])
            )
            if key
        ]
        meant = [
            clean(text, tokenizer) + (end if whole else "")
            for text, whole in trained_texts(trajectory, mine)
        ]
        if runs != meant[-len(runs) :] or (
            len(runs) < len(meant) and not config.training.max_length
        ):
            differs = next(
                (pair for pair in zip(runs, meant, strict=False) if pair[0] != pair[1]), ("", "")
            )
            yield f"sample {name}: trains {differs[0]!r} where {differs[1]!r} is meant"


def trained_texts(
    trajectory: Trajectory, weights: Mapping[Any, float]
) -> Iterator[tuple[str, bool]]:
    """The stretches of assistant text that the policy trains, written out from the turns alone, and
    whether each reaches to the end of its message."""
    stretch = ""
    for turn in trajectory.turns:
        text = format_turn(neutralise_model_text(turn.thought), neutralise_model_text(turn.action))
        if weights[turn.verdict] > 0:
            stretch += text if turn.executed else text + "\n"
        elif stretch:
            yield stretch, False
            stretch = ""
        if turn.executed and stretch:
            yield stretch, True
            stretch = ""
    if stretch:
        yield stretch, True
