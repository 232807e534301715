"""How a training makes samples of trajectories: the part of its config that does, and its model's
limit. For whoever has to make the same samples again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from step_ray.config_training import TrainConfig
from step_ray.models.encoding import Tokenizer
from step_ray.models.folder import model_folder
from step_ray.training.masks import MaskPolicy, Overlong, Sample, tokenize
from step_ray.trajectory import Trajectory

if TYPE_CHECKING:  # this module is of use without torch
    from step_ray.training.losses import Normalize

_FIELDS = ("loss", "mask", "max_length", "overlong", "normalize")


@dataclass(frozen=True, slots=True)
class Rules:
    """``max_length`` in tokens, None for no limit; ``by_reward`` weighs turns by the reward."""

    mask: MaskPolicy = "partial"
    max_length: int | None = None
    overlong: Overlong = "truncate"
    normalize: Normalize = "token"
    by_reward: bool = False

    @classmethod
    def of(cls, section: Mapping[str, Any], model: Path) -> Rules:
        """Those of a config's training section for the model in a folder.

        Raises ``ValueError`` if the section is not one (pydantic's names the field).
        """
        known = {name: section[name] for name in _FIELDS if name in section}
        config = TrainConfig.model_validate(known)
        return cls(
            config.mask,
            config.max_length or positions(model),
            config.overlong,
            config.normalize,
            config.loss == "reward_weighted",
        )

    def tokenize(self, trajectory: Trajectory, tokenizer: Tokenizer) -> Sample:
        """A trajectory's sample; raises what :func:`~step_ray.training.masks.tokenize` does."""
        weights = [trajectory.reward] * len(trajectory.turns) if self.by_reward else None
        return tokenize(trajectory, tokenizer, self.mask, self.max_length, self.overlong, weights)

    def with_(self, **changes: Any) -> Rules:
        """The same with some values replaced; None leaves a value as it is."""
        return dataclasses.replace(self, **{k: v for k, v in changes.items() if v is not None})


def positions(model: Path) -> int | None:
    """The longest text a model's configuration allows, in tokens, if it says so. Raises ModelError
    for what is no model folder."""
    found = json.loads((model_folder(model) / "config.json").read_text("utf-8")).get(
        "max_position_embeddings"
    )
    return found if isinstance(found, int) and found > 0 else None
