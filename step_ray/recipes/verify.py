"""``step-ray verify``: proves that a run holds what it says.

Every published trajectory is replayed in the real engine, every trained span is decoded and
compared with the text that was meant, every file and id is checked against the manifests, every
result is computed again. The checks share as little as possible with the code that made the data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from step_ray import store
from step_ray.config import RunConfig
from step_ray.config_transfer import EVALUATION, elsewhere
from step_ray.evaluation.made import figures_of_run
from step_ray.evaluation.statistics import results_of
from step_ray.evaluation.table import models_of
from step_ray.lineage import RunError, stage_records, verify_run
from step_ray.models.chat import clean
from step_ray.models.load import load_tokenizer
from step_ray.react import format_turn, neutralise_model_text
from step_ray.recipes.replay import replay
from step_ray.recipes.world import open_world
from step_ray.recorded import config_of
from step_ray.run import RESULTS
from step_ray.schema import from_row
from step_ray.synthesis.chosen import CHOSEN, read_chosen
from step_ray.synthesis.pairs import PAIRS, read_pairs
from step_ray.training import table
from step_ray.training.masks import verdict_weights
from step_ray.training.preferences import Pair
from step_ray.training.prepare import MODEL, SAMPLES
from step_ray.trajectory import Trajectory, content_hash

Said = Callable[[str, int], None]
"""Told what was checked, and how many of it."""


Meant = Callable[[int, str], list[tuple[Trajectory, list[float]]]]
"""Index and name of a sample -> the trajectories it may be of, each with its turns' weights."""


def verify(path: Path, said: Said = lambda what, count: None) -> list[str]:
    """Everything that is wrong with a run, as sentences that name the culprit; empty when sound.

    Raises RunError if ``path`` is no run.
    """
    problems = verify_run(path)
    records = [record for record in stage_records(path) if record["status"] == "done"]
    said("stages: fingerprints, inputs and outputs", len(records))
    if problems:  # what follows needs intact files
        return problems
    config = config_of(path)
    world = open_world(config)
    elsewhere_of = {elsewhere(name): there for name, there in world.transfer.items()}
    envs = {"": world.make(), **{name: there.make() for name, there in elsewhere_of.items()}}
    trajectories: dict[str, Trajectory] = {}
    for folder in (path / record["name"] for record in records):
        if not (folder / "manifest.json").exists():
            continue
        problems += store.verify_store(folder)
        count = untrue = 0
        env = envs.get(folder.name, envs[""])
        for row in store.read_rows(folder, kept_only=False):
            trajectory = from_row(row)
            trajectories[trajectory.id] = trajectory
            where = f"{folder.name}: trajectory {trajectory.id}"
            if content_hash(json.loads(row["spec"])) != trajectory.id:
                problems.append(f"{where}: its id is not the hash of its spec")
            if json.loads(row["spec"]).get("then") == "paste":
                untrue += 1  # by its config: nothing promises that it can be replayed
                continue
            problems += [f"{where}: {what}" for what in replay(trajectory, env)]
            count += 1
        said(f"{folder.name}: trajectories replayed in the engine", count)
        if untrue:
            said(f"{folder.name}: pasted trajectories, which nobody has executed", untrue)
    for env in envs.values():
        env.close()
    for record in records:
        folder = path / record["name"]
        if (folder / PAIRS).exists():
            pairs = list(read_pairs(folder / PAIRS))
            problems += [f"{folder.name}: {what}" for what in check_pairs(pairs, trajectories)]
            said(f"{folder.name}: pairs compared with their trajectories", len(pairs))
        if (folder / SAMPLES).exists():
            meant = meant_of(path, record, trajectories, config)
            whole = not record["outputs"]["truncated"]["value"]
            found = list(check_samples(folder, meant, whole))
            problems += [f"{folder.name}: {what}" for what in found]
            said(f"{folder.name}: samples decoded", len(table.read(folder / SAMPLES)))
    return [*problems, *check_results(path, config, said)]


def check_results(path: Path, config: RunConfig, said: Said) -> Iterator[str]:
    """The figures in ``results.json`` have to be those of the published episodes. A run that is not
    evaluated yet has none."""
    done = {record["name"] for record in stage_records(path) if record["status"] == "done"}
    tests = [("", EVALUATION, config.evaluation.splits)]
    tests += [(f"{name}/", elsewhere(name), at.splits) for name, at in config.transfer.items()]
    if not done.issuperset(stage for _, stage, _ in tests):
        said(f"{RESULTS}: rows, as the run is not evaluated", 0)
        return
    if not (path / RESULTS).exists():
        yield f"{RESULTS}: it is gone; run the command that made the run again"
        return
    try:
        stated = {(row["student"], row["split"]): row for row in figures_of_run(path)}
        found = {
            (row["student"], before + row["split"]): row
            for before, stage, splits in tests
            for row in results_of(
                list(store.read(path / stage, kept_only=False)), models_of(path, stage), splits
            )
        }
    except (RunError, store.StoreError) as error:
        yield str(error)
        return
    for student, split in [*found, *(key for key in stated if key not in found)]:
        where = f"{RESULTS}: {student} on {split}"
        has, should = stated.get((student, split)), found.get((student, split))
        if has is None or should is None:
            yield f"{where}: {'is not in it' if has is None else 'was not evaluated'}"
            continue
        for name in ("success", "average_reward"):
            value, true = has[name]["value"], should[name]["value"]
            if not math.isclose(value, true, abs_tol=1e-9):
                yield f"{where}: {name} is {value:.4g}, and that of its episodes {true:.4g}"
    said(f"{RESULTS}: rows computed again from the episodes", len(found))


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


def meant_of(
    path: Path,
    record: Mapping[str, Any],
    trajectories: Mapping[str, Trajectory],
    config: RunConfig,
) -> Meant:
    """What the samples of a training stage should train: by the mask alone, of pairs (the chosen
    one, then the rejected one, of which every turn counts), or from a turn on, as it was chosen."""
    inputs = record["identity"]["inputs"]
    by_verdict = verdict_weights(config.training.mask) | record["identity"]["config"]["mask"]

    def masked(trajectory: Trajectory) -> list[float]:
        return [by_verdict[turn.verdict] for turn in trajectory.turns]

    def of_pairs(index: int, name: str) -> list[tuple[Trajectory, list[float]]]:
        if name not in pairs:
            return []
        if index % 2:
            side = pairs[name].rejected
            return [(side, [1.0] * len(side.turns))]
        return [(pairs[name].chosen, masked(pairs[name].chosen))]

    def of_chosen(_: int, name: str) -> list[tuple[Trajectory, list[float]]]:
        return [
            (trajectories[name], [0.0] * start + masked(trajectories[name])[start:])
            for start in chosen.get(name, ())
            if name in trajectories
        ]

    def plain(_: int, name: str) -> list[tuple[Trajectory, list[float]]]:
        known = trajectories.get(name)
        return [] if known is None else [(known, masked(known))]

    if "pairs" in inputs:
        listed = read_pairs(path / inputs["pairs"]["stage"] / PAIRS)
        pairs = {pair.id: pair for pair in listed}
        return of_pairs
    if "chosen" in inputs:
        chosen: dict[str, list[int]] = {}
        for one in read_chosen(path / inputs["chosen"]["stage"] / CHOSEN):
            chosen.setdefault(one.id, []).append(one.start)
        return of_chosen
    return plain


def check_samples(folder: Path, meant_of: Meant, whole: bool) -> Iterator[str]:
    """Compares what a training stage's samples train with what they should: the texts of turns that
    have a weight, each with the end of its message. Unless samples are ``whole``, their oldest
    turns may be left out."""
    samples = table.read(folder / SAMPLES)
    tokenizer = load_tokenizer(folder / MODEL)
    end = str(tokenizer.eos_token)
    for index, name in enumerate(samples.names):
        start, stop = int(samples.offsets[index]), int(samples.offsets[index + 1])
        ids, trained = samples.ids[start:stop], samples.weights[start:stop] > 0
        runs = [
            tokenizer.decode([int(token) for token, _ in group], skip_special_tokens=False)
            for key, group in groupby(
                zip(ids, trained, strict=True), key=lambda pair: bool(pair[1])
            )
            if key
        ]
        possible = [
            [
                clean(text, tokenizer) + (end if ends else "")
                for text, ends in trained_texts(trajectory, weights)
            ]
            for trajectory, weights in meant_of(index, name)
        ]
        if not possible:
            yield f"sample {name}: no such trajectory is published in this run"
        elif not any(_same(runs, meant, whole) for meant in possible):
            differs = next(
                (pair for pair in zip(runs, possible[0], strict=False) if pair[0] != pair[1]),
                ("", ""),
            )
            yield f"sample {name}: trains {differs[0]!r} where {differs[1]!r} is meant"


def _same(runs: list[str], meant: list[str], whole: bool) -> bool:
    """Whether all that is meant is trained; if turns were left out, all from some turn on."""
    return runs == meant or (not whole and runs == meant[-len(runs) :])


def trained_texts(trajectory: Trajectory, weights: Sequence[float]) -> Iterator[tuple[str, bool]]:
    """The stretches of assistant text that are trained, written out from the turns alone, of which
    ``weights`` has one each; and whether each reaches to the end of its message."""
    stretch = ""
    for turn, weight in zip(trajectory.turns, weights, strict=True):
        text = format_turn(neutralise_model_text(turn.thought), neutralise_model_text(turn.action))
        if weight > 0:
            stretch += text if turn.executed else text + "\n"
        elif stretch:
            yield stretch, False
            stretch = ""
        if turn.executed and stretch:
            yield stretch, True
            stretch = ""
    if stretch:
        yield stretch, True
