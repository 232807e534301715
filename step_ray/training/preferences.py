"""Preference pairs for DPO: two ways on in the same task, of which one is better."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from step_ray.models.encoding import Tokenizer
from step_ray.training.masks import Counts, MaskPolicy, NothingToTrain, Overlong, Sample, tokenize
from step_ray.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Pair:
    """``chosen`` is preferred to ``rejected``; both begin with the same prompt.

    The prompt is the instruction with the first observation (ETO: pairs of whole trajectories) and
    the first ``shared_turns`` turns of both (IPR: pairs of steps), which are context for either.
    Raises ``ValueError`` if the prompts differ.
    """

    chosen: Trajectory
    rejected: Trajectory
    shared_turns: int = 0

    def __post_init__(self) -> None:
        if _prompt(self.chosen, self.shared_turns) != _prompt(self.rejected, self.shared_turns):
            raise ValueError(
                f"the pair {self.id} has two prompts: instruction, first observation and the first"
                f" {self.shared_turns} turns (shared_turns) have to be the same in both"
            )

    @property
    def id(self) -> str:
        return f"{self.chosen.id}>{self.rejected.id}"


def tokenize_pairs(
    pairs: Iterable[Pair],
    tokenizer: Tokenizer,
    mask: MaskPolicy = "partial",
    max_length: int | None = None,
    counts: Counts | None = None,
    overlong: Overlong = "truncate",
) -> Iterator[Sample]:
    """Two samples for each pair that can be trained on: the chosen one, then the rejected one.

    Weights are 1 on what the agent says after the prompt and 0 on all else: DPO's sums are over
    agent tokens alone. ``mask`` is for the chosen one, where an error must not be made likelier;
    of the rejected one every turn counts. A pair is dropped with either of its samples.
    """
    counts = Counts() if counts is None else counts
    for pair in pairs:
        with counts.refusals():
            chosen = _after(
                tokenize(pair.chosen, tokenizer, mask, max_length, overlong), pair.shared_turns
            )
            rejected = _after(
                tokenize(pair.rejected, tokenizer, "none", max_length, overlong), pair.shared_turns
            )
            counts.add(chosen)
            counts.add(rejected)
            yield replace(chosen, id=pair.id)
            yield replace(rejected, id=pair.id)


def _prompt(trajectory: Trajectory, shared: int) -> object:
    turns = [(t.thought, t.action, t.observation, t.executed) for t in trajectory.turns[:shared]]
    return trajectory.instruction, trajectory.initial_observation, turns, len(turns)


def _after(sample: Sample, shared_turns: int) -> Sample:
    spans = [span for span in sample.spans if span.turn >= shared_turns]
    if not spans:
        raise NothingToTrain(f"trajectory {sample.id}: no turn has a weight after the prompt")
    weights = [0.0] * len(sample.input_ids)
    for span in spans:
        weights[span.start : span.end] = sample.loss_weights[span.start : span.end]
    return replace(sample, loss_weights=weights, spans=spans)
