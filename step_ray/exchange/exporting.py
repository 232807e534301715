"""``step-ray export``: a run's or dataset's trajectories in the form that another trainer reads."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from step_ray import files, store
from step_ray.bucket import Place, place
from step_ray.exchange.formats import TEXT, LeftOut, Row, TextFormat, lines_of
from step_ray.exchange.preferences import pairs_of, read_all, trl_dpo
from step_ray.exchange.records import ExchangeError
from step_ray.exchange.trained import ids_of, trained_by
from step_ray.exchange.writing import FileKind, write
from step_ray.lineage import read_run
from step_ray.manifest import MANIFEST, disk_errors
from step_ray.report.card import CARD, Exported, card
from step_ray.training.masks import MaskName, NothingToTrain, TooLong, tokenize
from step_ray.trajectory import Trajectory

TOKENS = ("skyrl", "trl-tokens")
PAIRED = "trl-dpo"
FORMATS = (*TEXT, *TOKENS, PAIRED)
# What reads the format takes this kind of file, or takes all.
_KIND: dict[str, FileKind] = {"agentgym": "json"}
_IGNORED = -100  # torch's cross entropy leaves these labels out
# Stages whose trajectories nobody should imitate: tests, and what a policy tried by itself.
_NOT_TO_IMITATE = ("evaluation", "explored", "valued")


@dataclass(frozen=True, slots=True)
class Export:
    """What to export, and how.

    ``stages`` of a run, none for all that hold trajectories to imitate (or pairs). ``student``: of
    these only what this student of the run (a training stage) was trained on. ``tokenizer``: a
    model's folder, for the formats of tokens; ``max_length`` (tokens) drops what is longer.
    ``kind``: of file, None for what the format's reader takes: Parquet unless it takes something
    else alone.
    """

    source: str | Place
    format: str
    output: str | Place
    mask: str = "partial"
    stages: Sequence[str] = ()
    tokenizer: Path | None = None
    max_length: int | None = None
    kind: str | None = None
    student: str | None = None


@dataclass(slots=True)
class _Tally:
    trajectories: int = 0
    rows: int = 0
    masked: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def export(wanted: Export) -> Exported:
    """Writes ``train.<kind>`` and the dataset's card, ``README.md``, to a new folder.

    The kept trajectories are exported; one that the format cannot hold with its mask is left out
    and counted. Raises ExchangeError for what cannot be exported. ``source`` (a dataset) and
    ``output`` may be in an object store: ``s3://bucket/folder``.
    """
    output = place(wanted.output)
    if isinstance(output, Path):
        return _export(wanted, output)
    if any(True for _ in output.children()):
        raise ExchangeError(f"{output}: the folder is not empty; choose a new one")
    with tempfile.TemporaryDirectory(prefix="step-ray-export-") as folder:
        exported = _export(wanted, Path(folder))
        for name in (exported.file, CARD):
            (output / name).write_bytes((Path(folder) / name).read_bytes())
    return exported


def _export(wanted: Export, output: Path) -> Exported:
    form: str = _one_of(FORMATS, wanted.format, "format")
    mask: MaskName = _one_of(get_args(MaskName), wanted.mask, "mask")
    kind: FileKind = _one_of(
        get_args(FileKind), wanted.kind or _KIND.get(form, "parquet"), "kind of file"
    )
    if output.exists() and any(output.iterdir()):
        raise ExchangeError(f"{output}: the folder is not empty; choose a new one")
    tally = _Tally()
    if form == PAIRED:
        if wanted.student:
            raise ExchangeError(f"{form} holds pairs: choose a stage, not a student")
        pairs, folders = pairs_of(wanted.source, wanted.stages)
        rows = _pair_rows(pairs, mask, tally)
    else:
        folders = datasets_of(wanted.source, wanted.stages)
        chosen = _chosen(folders, wanted)
        rows = (
            _text_rows(TEXT[form], mask, chosen, tally)
            if form in TEXT
            else _token_rows(wanted, mask, chosen, tally)
        )
    first = next(rows, None)
    if first is None:
        raise ExchangeError(
            f"{wanted.source}: nothing to export as {wanted.format}; left out: "
            f"{dict(tally.left_out) or 'no trajectory is kept'}"
        )
    with disk_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        name = f"train.{kind}"
        with files.atomic(output / name) as path:
            write(chain([first], rows), form, kind, path)
        exported = Exported(
            format=form,
            file=name,
            mask=mask,
            trajectories=tally.trajectories,
            rows=tally.rows,
            masked_messages=tally.masked,
            left_out=dict(tally.left_out.most_common()),
            students={} if form == PAIRED else _parts(wanted, folders),
        )
        files.write_text_atomic(output / CARD, card(folders, exported))
    return exported


def datasets_of(source: str | Place, stages: Sequence[str] = ()) -> list[Place]:
    """The published datasets of a run (of some of its stages), or the one in a folder.

    Raises ExchangeError if there are none, RunError for a folder that is neither.
    """
    source = place(source)
    try:
        manifest = json.loads((source / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise ExchangeError(
            f"{source / MANIFEST}: cannot be read ({error}); give the folder of a run or dataset"
        ) from None
    if isinstance(manifest, dict) and "shards" in manifest:
        return [source]
    if not isinstance(source, Path):
        raise ExchangeError(f"{source}: not a dataset; give the folder of one stage")
    holding = [
        name
        for name, record in read_run(source).get("stages", {}).items()
        if record["status"] == "done" and record["outputs"].get("data", {}).get("kind") == "dataset"
    ]
    unknown = sorted(set(stages) - set(holding))
    if unknown or not holding:
        raise ExchangeError(
            f"{source}: stage {', '.join(unknown)} holds no trajectories; "
            f"those that do are: {', '.join(holding) or 'none yet'}"
        )
    if not stages:
        stages = [name for name in holding if not name.startswith(_NOT_TO_IMITATE)]
    return [source / name for name in holding if name in stages]


def as_text(exported: Exported, output: str | Place) -> str:
    """What a person is told."""
    lines = [f"{exported.rows:7d}  rows of {exported.trajectories} trajectories in {output}"]
    lines += [f"{count:7d}  left out: {why}" for why, count in exported.left_out.items()]
    if exported.students:
        parts = ", ".join(f"{name} {count}" for name, count in exported.students.items())
        lines.append(f"NOTE  the run's students were trained on parts: {parts} (--student NAME)")
    if exported.warning:
        lines.append(f"NOTE  {exported.warning}")
    return "\n".join(lines)


def _one_of(known: Sequence[str], value: str, what: str) -> Any:
    if value not in known:
        raise ExchangeError(f"unknown {what} {value!r}; known are {', '.join(known)}")
    return value


def _chosen(folders: list[Place], wanted: Export) -> Iterator[Trajectory]:
    everything = store.read_once(folders)
    if wanted.student is None:
        return everything
    ids = ids_of(Path(str(wanted.source)), wanted.student)
    return (trajectory for trajectory in everything if trajectory.id in ids)


def _parts(wanted: Export, folders: list[Place]) -> dict[str, int]:
    """Student -> how many it was trained on, if all that can be imitated of a run was asked for."""
    source = place(wanted.source)
    if wanted.student or wanted.stages or [source] == folders or not isinstance(source, Path):
        return {}
    return {name: len(ids) for name, ids in trained_by(source).items()}


def _text_rows(
    make: TextFormat, mask: MaskName, chosen: Iterable[Trajectory], tally: _Tally
) -> Iterator[Row]:
    for trajectory in chosen:
        try:
            lines = lines_of(trajectory, mask)
            rows = list(make(trajectory, lines))
        except LeftOut as error:
            tally.left_out[error.reason] += 1
            continue
        tally.trajectories += 1
        tally.rows += len(rows)
        tally.masked += sum(
            line.role == "assistant" and not any(trained for _, trained in line.parts)
            for line in lines
        )
        yield from rows


def _pair_rows(paths: list[Path], mask: MaskName, tally: _Tally) -> Iterator[Row]:
    for pair in read_all(paths):
        try:
            row = trl_dpo(pair, mask)
        except LeftOut as error:
            tally.left_out[error.reason] += 1
            continue
        tally.trajectories += 2
        tally.rows += 1
        yield row


def _token_rows(
    wanted: Export, mask: MaskName, chosen: Iterable[Trajectory], tally: _Tally
) -> Iterator[Row]:
    if wanted.tokenizer is None:
        raise ExchangeError(f"{wanted.format} holds tokens: give --tokenizer, a model's folder")
    from step_ray.models.load import load_tokenizer

    tokenizer = load_tokenizer(wanted.tokenizer)
    for trajectory in chosen:
        try:
            sample = tokenize(trajectory, tokenizer, mask, wanted.max_length, "drop")
        except NothingToTrain as error:
            tally.left_out["too_long" if isinstance(error, TooLong) else "nothing_to_train"] += 1
            continue
        tally.trajectories += 1
        tally.rows += 1
        trained = [weight > 0 for weight in sample.loss_weights]
        if wanted.format == "skyrl":
            yield {"input_ids": sample.input_ids, "loss_mask": [int(flag) for flag in trained]}
        else:
            labels = [
                token if flag else _IGNORED
                for token, flag in zip(sample.input_ids, trained, strict=True)
            ]
            yield {"input_ids": sample.input_ids, "labels": labels}
