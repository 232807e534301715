"""The token view: what a model reads and what of it is trained, token by token.

Ids and weights are those of :func:`step_ray.training.masks.tokenize`; nothing is tokenised here.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from step_ray.lineage import RunError
from step_ray.report.data import RunData, dictionary
from step_ray.training.masks import MaskedSpan, NothingToTrain, Sample, TrainedSpan
from step_ray.training.rules import Rules
from step_ray.trajectory import Trajectory


class TokenView:
    """Tokens of the ``wanted`` trajectories, given as (group, id)."""

    def __init__(
        self, tokenizer: Any, folder: Path, rules: Rules, wanted: Collection[tuple[str, str]]
    ) -> None:
        from step_ray.models.chat import renderer

        self._tokenizer = tokenizer
        self._rules = rules
        self._wanted = set(wanted)
        self._encoder = renderer(tokenizer).encoder
        self._lead = self._encoder.encode(["a"])[0]
        self._texts: dict[int, str] = {}
        self.about = {
            "tokenizer": folder.name if folder.name != "model" else f"{folder.parent.name}/model",
            "maxLength": rules.max_length,
            "trajectories": len(self._wanted),
        }

    def tokens(self, group: str, trajectory: Trajectory) -> dict[str, Any] | None:
        """Stretches of tokens with what they are; None for a trajectory that is not wanted."""
        if (group, trajectory.id) not in self._wanted:
            return None
        try:
            sample = self._rules.tokenize(trajectory, self._tokenizer)
        except NothingToTrain as refusal:
            return {"refused": str(refusal)}
        return {"truncated": sample.truncated_turns, "stretches": self._stretches(sample)}

    def _stretches(self, sample: Sample) -> list[dict[str, Any]]:
        """Runs of tokens of the same kind; those that no turn says have no verdict."""
        spans: list[TrainedSpan | MaskedSpan] = [*sample.spans, *sample.masked]
        spans.sort(key=lambda span: span.start)
        found: list[dict[str, Any]] = []

        def add(start: int, end: int, verdict: str = "") -> None:
            if start < end:
                ids = sample.input_ids[start:end]
                found.append(
                    {
                        "verdict": verdict,
                        "weight": sample.loss_weights[start],
                        "ids": ids,
                        "texts": [self._text(token) for token in ids],
                    }
                )

        at = 0
        for span in spans:
            add(at, span.start)
            add(span.start, span.end, span.verdict)
            at = span.end
        add(at, len(sample.input_ids))
        return found

    def _text(self, token: int) -> str:
        """One token's text; of a part of a character it is U+FFFD."""
        if token not in self._texts:
            # Some decoders drop a blank at the beginning of a text, so the token is not put there.
            decode = self._encoder.decode
            self._texts[token] = decode([*self._lead, token])[len(decode(self._lead)) :]
        return self._texts[token]


def token_view(
    data: RunData, tokenizer: Path | None, wanted: Collection[tuple[str, str]]
) -> TokenView | None:
    """The token view of a run with a tokenizer, its own student's if none is named.

    None if there is nothing to show, or no student yet. Raises
    :class:`~step_ray.models.base.ModelError` for a named tokenizer that cannot be used.
    """
    folder = tokenizer or data.student
    if not wanted or folder is None:
        return None
    try:
        from step_ray.models.base import ModelError
        from step_ray.models.load import load_tokenizer
    except ImportError as error:
        if tokenizer is not None:
            raise RunError(f"tokens need the extra step-ray[torch] ({error})") from error
        data.problems.append(f"no token view: it needs the extra step-ray[torch] ({error})")
        return None
    try:
        loaded = load_tokenizer(folder)
        rules = Rules.of(dictionary(data.config.get("training")), folder)
        return TokenView(loaded, folder, rules, wanted)
    except (ModelError, ValueError, OSError) as error:
        if tokenizer is not None:
            raise
        data.problems.append(f"no token view: {error}")
        return None
