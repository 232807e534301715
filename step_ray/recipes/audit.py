"""``step-ray audit``: what of a whole dataset is trained, token by token, with one tokenizer.

Every trajectory is tokenised as the training does it, and what came out is compared with what the
mask says, written out from the turns alone: a token of an error that has a weight, a token of an
observation that has one, a trained text that is not what the agent said, is a violation. With a
checkpoint, loss and gradient of the turns of each verdict are measured: those of masked errors have
to be 0.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import numpy as np

from step_ray import files, store
from step_ray._version import __version__
from step_ray.exchange.exporting import datasets_of
from step_ray.lineage import CONFIG, RunError
from step_ray.models.chat import clean, end_of_turn, renderer
from step_ray.models.load import load_model, load_tokenizer
from step_ray.recipes.verify import trained_texts
from step_ray.report.data import AUDIT, FOLDER, RunData, collect, dictionary
from step_ray.synthesis.calibrate import Chosen
from step_ray.synthesis.chosen import CHOSEN, read_chosen
from step_ray.training import table
from step_ray.training.gradients import pulls
from step_ray.training.losses import reweight
from step_ray.training.masks import (
    POLICIES,
    Counts,
    MaskedSpan,
    MaskPolicy,
    NothingToTrain,
    Sample,
    TrainedSpan,
    tokenize,
    verdict_weights,
)
from step_ray.training.prepare import MODEL, SAMPLES
from step_ray.training.rules import Rules
from step_ray.trajectory import Trajectory, Verdict

FORMAT_VERSION = 1
BINS = 24  # of the length histogram
LISTED = 100  # violations that are spelled out
GRADIENT_SAMPLES = 32


@dataclass(frozen=True)
class Wanted:
    """What to audit. ``source``: a run or a dataset; ``tokenizer``: a model's folder, None for the
    run's student; ``mask`` and ``max_length`` (tokens) replace the run's; ``stages`` of a run, none
    for all that hold training data; ``shown`` trained texts of each verdict; ``gradients``:
    trajectories that loss and gradient of ``checkpoint`` are measured on."""

    source: Path
    tokenizer: Path | None = None
    checkpoint: Path | None = None
    mask: MaskPolicy | None = None
    max_length: int | None = None
    stages: Sequence[str] = ()
    shown: int = 3
    gradients: int = GRADIENT_SAMPLES


@dataclass
class _Tally:
    """What is counted along."""

    counts: Counts = field(default_factory=Counts)
    trajectories: int = 0
    lengths: list[int] = field(default_factory=list)
    turns: Counter[Verdict] = field(default_factory=Counter)
    tokens: Counter[Verdict] = field(default_factory=Counter)
    trained: Counter[Verdict] = field(default_factory=Counter)
    spans: dict[Verdict, list[dict[str, Any]]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def add(self, sample: Sample, shown: int) -> None:
        self.counts.add(sample)
        self.lengths.append(len(sample.input_ids))
        for span in _spans(sample):
            self.turns[span.verdict] += 1
            self.tokens[span.verdict] += span.end - span.start
        for trained in sample.spans:
            self.trained[trained.verdict] += trained.end - trained.start
            listed = self.spans.setdefault(trained.verdict, [])
            # One of a trajectory: texts of several say more than several of one.
            if len(listed) < shown and all(one["trajectory"] != sample.id for one in listed):
                text = {"trajectory": sample.id, "turn": trained.turn + 1, "text": trained.text}
                listed.append(text)


def audit(wanted: Wanted) -> dict[str, Any]:
    """The audit as a JSON-like value; ``violation_count`` is 0 for sound data.

    Raises RunError, ExchangeError, StoreError or ModelError for what cannot be audited.
    """
    folders = datasets_of(wanted.source, wanted.stages)
    run = collect(wanted.source) if (wanted.source / CONFIG).exists() else None
    folder = wanted.tokenizer or (run.student if run else None)
    if folder is None:
        raise RunError(f"{wanted.source}: no student to audit for; name one with --tokenizer")
    tokenizer = load_tokenizer(folder)
    section = dictionary(run.config.get("training")) if run else {}
    rules = Rules.of(section, folder).with_(mask=wanted.mask, max_length=wanted.max_length)
    tally = _Tally()
    stored = list(_stored(run, wanted)) if run else []
    compared: Counter[str] = Counter()
    measured = _Chosen(wanted.gradients)
    for trajectory in store.read_once(folders):
        tally.trajectories += 1
        with tally.counts.refusals():
            sample = rules.tokenize(trajectory, tokenizer)
            tally.add(sample, wanted.shown)
            measured.add(sample)
            tally.violations += [
                f"trajectory {trajectory.id}: {what}"
                for what in violations(sample, trajectory, tokenizer, rules)
            ]
        made: dict[Any, Sample] = {}
        for stage in stored:
            for row in stage.rows.get(trajectory.id, ()):
                compared[stage.name] += 1
                if not any(
                    stage.same(row, one) for one in stage.meant(trajectory, tokenizer, made)
                ):
                    tally.violations.append(
                        f"trajectory {trajectory.id}: stage {stage.name} was trained on other ids "
                        "or weights than are meant"
                    )
    found = _figures(tally)
    return {
        "format_version": FORMAT_VERSION,
        "created": files.now(),
        "code_version": __version__,
        "source": wanted.source.resolve().name,
        "datasets": {one.name: store.read_manifest(one).content_hash for one in folders},
        "tokenizer": _name(folder),
        "mask": {str(verdict): weight for verdict, weight in verdict_weights(rules.mask).items()},
        "max_length": rules.max_length,
        **found,
        "compared_with_training": dict(compared),
        "gradients": _gradients(wanted.checkpoint, measured.samples, rules),
    }


def save(source: Path, found: dict[str, Any]) -> Path | None:
    """Keeps the audit of a run where its page looks for it; None for a dataset, which has none."""
    if not (source / CONFIG).exists():
        return None
    path = source / FOLDER / AUDIT
    try:
        path.parent.mkdir(exist_ok=True)
        files.write_json_atomic(path, found)
    except OSError as error:
        raise RunError(files.explain(error, path)) from error
    return path


def mask_of(name: str | None) -> MaskPolicy | None:
    """A mask by name; raises RunError for one that there is not."""
    if name is not None and name not in POLICIES:
        raise RunError(f"--mask {name}: unknown; choose {', '.join(POLICIES)}")
    return cast(MaskPolicy | None, name)


def violations(
    sample: Sample, trajectory: Trajectory, tokenizer: Any, rules: Rules
) -> Iterator[str]:
    """Everything in a sample that is not as the mask says; shares no code with what made it."""
    weights = verdict_weights(rules.mask)
    factor = trajectory.reward if rules.by_reward else 1.0
    wanted = [0.0] * len(sample.input_ids)
    for span in _spans(sample):
        for index in range(span.start, span.end):
            wanted[index] = weights[span.verdict] * factor
    for trained in sample.spans:
        if trajectory.turns[trained.turn].verdict != trained.verdict:
            yield f"turn {trained.turn + 1} is taken for a turn of verdict {trained.verdict}"
    wrong = [i for i, weight in enumerate(sample.loss_weights) if weight != wanted[i]]
    if wrong:
        first = wrong[0]
        yield (
            f"{len(wrong)} tokens have another weight than the mask gives them; the first is token "
            f"{first} with {sample.loss_weights[first]:g} instead of {wanted[first]:g}"
        )
    said = _trained(sample, tokenizer)
    of_turns = [weights[turn.verdict] for turn in trajectory.turns]
    meant = [(clean(text, tokenizer), whole) for text, whole in trained_texts(trajectory, of_turns)]
    if sample.truncated_turns:
        meant = meant[-len(said) :]
    if len(said) != len(meant):
        yield f"{len(said)} stretches are trained where {len(meant)} are meant"
    end = tokenizer.decode([end_of_turn(tokenizer)], skip_special_tokens=False)
    for one, (text, whole) in zip(said, meant, strict=False):
        if whole and not one.endswith(end):
            yield f"trains {one!r} without the end of the turn, {end!r}"
        elif one.removesuffix(end if whole else "").strip() != text.strip():
            yield f"trains {one!r} where {text!r} is meant"


def as_text(found: dict[str, Any]) -> str:
    """The audit as a table for a terminal."""
    limit = f", at most {found['max_length']:,} tokens" if found["max_length"] else ""
    lines = [
        f"{found['trajectories']:,} trajectories of {', '.join(found['datasets'])}, tokenizer of "
        f"{found['tokenizer']}{limit}",
        "",
        f"{'said in':<24}{'weight':>8}{'turns':>10}{'tokens':>12}{'trained':>12}",
    ]
    for verdict, row in found["verdicts"].items():
        weight = f"{found['mask'][verdict]:g}" if verdict in found["mask"] else "0"
        turns = f"{row['turns']:,}" if "turns" in row else ""
        lines.append(
            f"{verdict:<24}{weight:>8}{turns:>10}{row['tokens']:>12,}{row['trained_tokens']:>12,}"
        )
    lengths = found["lengths"]
    refused = ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in found["refused"].items() if n)
    lines += [
        f"{'all':<42}{found['tokens']:>12,}{found['trained_tokens']:>12,}",
        "",
        f"trained share {found['trained_share']:.1%}; tokens of a sample: {lengths['min']:,} to "
        f"{lengths['max']:,}, median {lengths['median']:,}, 95 % below {lengths['p95']:,}",
        f"samples {found['samples']:,}; left out: {refused or 'none'}; truncated "
        f"{found['truncated']:,} (by {found['truncated_turns']:,} turns)",
    ]
    compared = found["compared_with_training"]
    if compared:
        said = ", ".join(f"{stage} {n:,}" for stage, n in compared.items())
        lines.append(f"compared with what was trained on, sample by sample: {said}")
    for verdict, spans in ((name, some) for name, some in found["spans"].items() if some):
        lines += ["", f"trained text, {verdict}:"]
        lines += [f"  {one['trajectory'][:8]} turn {one['turn']}: {one['text']!r}" for one in spans]
    if found["gradients"]:
        lines += ["", *_gradient_lines(found["gradients"])]
    lines += ["", f"violations: {found['violation_count']:,}"]
    lines += [f"  {what}" for what in found["violations"]]
    return "\n".join(lines)


# -- what was trained on ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stored:
    """The samples that a training stage wrote: what its workers read. ``rows``: those of each
    trajectory; ``rules``: the stage's own; ``chosen``: of which trajectories it is, from which turn
    on and with which weights, None for all that it has, whole."""

    name: str
    samples: table.TokenTable
    rows: dict[str, list[int]]
    rules: Rules
    chosen: dict[str, list[Chosen]] | None

    def meant(
        self, trajectory: Trajectory, tokenizer: Any, made: dict[Any, Sample]
    ) -> Iterator[Sample]:
        """The samples that there may be of a trajectory; what is in ``made`` is not made again."""
        by_verdict = verdict_weights(self.rules.mask)
        masked = [by_verdict[turn.verdict] for turn in trajectory.turns]
        if self.chosen is None:
            factor = trajectory.reward if self.rules.by_reward else 1.0
            possible = [[weight * factor for weight in masked]]
        else:
            possible = [
                [0.0] * one.start + [weight * one.weight for weight in masked[one.start :]]
                for one in self.chosen.get(trajectory.id, ())
            ]
        for weights in possible:
            length, overlong = self.rules.max_length, self.rules.overlong
            key = (*weights, length, overlong)
            if key not in made:
                with contextlib.suppress(NothingToTrain):  # then no sample is the right one
                    made[key] = tokenize(trajectory, tokenizer, "none", length, overlong, weights)
            if key in made:
                yield made[key]

    def same(self, row: int, sample: Sample) -> bool:
        start, end = (int(self.samples.offsets[row + i]) for i in (0, 1))
        weights = np.asarray(reweight(sample, self.rules.normalize), dtype=np.float32)
        return np.array_equal(self.samples.ids[start:end], sample.input_ids) and np.array_equal(
            self.samples.weights[start:end], weights
        )


def _stored(run: RunData, wanted: Wanted) -> Iterator[_Stored]:
    """What was trained on; nothing if the audit is with other settings than the run's."""
    if (wanted.tokenizer, wanted.mask, wanted.max_length) != (None, None, None):
        return
    for record in run.stages:
        folder = run.path / str(record.get("name"))
        if record.get("status") != "done" or not (folder / SAMPLES).exists():
            continue
        samples = table.read(folder / SAMPLES)
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(samples.names):
            rows.setdefault(name, []).append(row)
        identity = dictionary(record.get("identity"))
        rules = Rules.of(dictionary(identity.get("config")), folder / MODEL)
        source = dictionary(dictionary(identity.get("inputs")).get("chosen")).get("stage")
        chosen: dict[str, list[Chosen]] | None = None
        if source is not None:
            chosen = {}
            for one in read_chosen(run.path / str(source) / CHOSEN):
                chosen.setdefault(one.id, []).append(one)
        yield _Stored(folder.name, samples, rows, rules, chosen)


# -- figures ---------------------------------------------------------------------------------------


def _figures(tally: _Tally) -> dict[str, Any]:
    counts = tally.counts
    said = sum(tally.tokens.values())
    verdicts: dict[str, dict[str, int]] = {
        str(verdict): {
            "turns": tally.turns[verdict],
            "tokens": tally.tokens[verdict],
            "trained_tokens": tally.trained[verdict],
        }
        for verdict in table.CLASSES
        if tally.turns[verdict]
    }
    verdicts["task and observations"] = {"tokens": counts.tokens - said, "trained_tokens": 0}
    return {
        "trajectories": tally.trajectories,
        "samples": counts.samples,
        "refused": {
            name: getattr(counts, name)
            for name in ("nothing_to_train", "too_long", "worthless", "unfaithful")
        },
        "truncated": counts.truncated,
        "truncated_turns": counts.truncated_turns,
        "tokens": counts.tokens,
        "trained_tokens": counts.trained_tokens,
        "trained_share": counts.trained_tokens / counts.tokens if counts.tokens else 0.0,
        "verdicts": verdicts,
        "lengths": _lengths(sorted(tally.lengths)),
        "spans": {str(verdict): spans for verdict, spans in sorted(tally.spans.items())},
        "violation_count": len(tally.violations),
        "violations": tally.violations[:LISTED],
    }


def _lengths(lengths: Sequence[int]) -> dict[str, Any]:
    """Spread of the samples' lengths in tokens; a bin is [from, to, samples]."""
    if not lengths:
        return {"min": 0, "median": 0, "p95": 0, "max": 0, "bins": []}
    first, last = lengths[0], lengths[-1]
    width = max(1, math.ceil((last - first + 1) / BINS))
    tally = Counter((length - first) // width for length in lengths)
    bins = [
        [first + number * width, first + (number + 1) * width - 1, tally[number]]
        for number in range((last - first) // width + 1)
    ]
    return {
        "min": first,
        "median": lengths[len(lengths) // 2],
        "p95": lengths[math.ceil(0.95 * len(lengths)) - 1],
        "max": last,
        "bins": bins,
    }


# -- gradients -------------------------------------------------------------------------------------


class _Chosen:
    """The first samples with a masked turn, filled up with the first of the others."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._masked: list[Sample] = []
        self._others: list[Sample] = []

    def add(self, sample: Sample) -> None:
        pile = self._masked if sample.masked else self._others
        if len(pile) < self._size:
            pile.append(sample)

    @property
    def samples(self) -> list[Sample]:
        return [*self._masked, *self._others][: self._size]


def _gradients(
    checkpoint: Path | None, samples: Sequence[Sample], rules: Rules
) -> dict[str, Any] | None:
    if checkpoint is None or not samples:
        return None
    model = load_model(checkpoint)
    found = pulls(model, table.from_samples(samples, rules.normalize))
    return {"checkpoint": _name(checkpoint), "samples": len(samples), **dataclasses.asdict(found)}


def _gradient_lines(found: dict[str, Any]) -> Iterator[str]:
    yield (
        f"loss and gradient of {found['checkpoint']} on {found['samples']} of these samples; norm "
        f"of the whole gradient {found['whole']:.4g}"
    )
    yield f"{'said in':<16}{'tokens':>10}{'loss':>10}{'masked':>12}{'unmasked':>12}{'cosine':>10}"
    for verdict, row in found["verdicts"].items():
        yield (
            f"{verdict:<16}{row['tokens']:>10,}{row['loss']:>10.4f}{row['masked']:>12.4g}"
            f"{row['unmasked']:>12.4g}{row['cosine']:>10.3f}"
        )
    yield f"{'all else':<16}{'':>20}{found['rest']:>12.2g}"


# -- pieces ----------------------------------------------------------------------------------------


def _spans(sample: Sample) -> list[TrainedSpan | MaskedSpan]:
    return [*sample.spans, *sample.masked]


def _trained(sample: Sample, tokenizer: Any) -> list[str]:
    """What each stretch of tokens with a weight says."""
    encoder = renderer(tokenizer).encoder
    # Some decoders drop a blank at the beginning of a text, so the stretch is not put there.
    lead = encoder.encode(["a"])[0]
    skip = len(encoder.decode(lead))
    pairs = zip(sample.input_ids, sample.loss_weights, strict=True)
    return [
        encoder.decode([*lead, *(token for token, _ in run)])[skip:]
        for trained, run in groupby(pairs, key=lambda pair: pair[1] > 0)
        if trained
    ]


def _name(folder: Path) -> str:
    """A model's folder as a person knows it: a stage's is called model."""
    folder = folder.resolve()
    return f"{folder.parent.name}/{MODEL}" if folder.name == MODEL else folder.name
