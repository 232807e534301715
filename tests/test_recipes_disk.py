"""Bytes a parameter of models and running checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from step_ray.config_training import TrainConfig
from step_ray.recipes.disk import published_bytes, training_bytes
from step_ray.recipes.world import PACKAGED_MODEL


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"dtype": "bfloat16"}, 2),
        ({"torch_dtype": "float16"}, 2),
        ({"dtype": "float32"}, 4),
        ({"torch_dtype": "float64"}, 8),
    ],
)
def test_a_model_has_its_starts_number_format(
    tmp_path: Path, settings: dict[str, str], size: int
) -> None:
    assert published_bytes(tmp_path) == 2, "not there yet"
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert published_bytes(tmp_path) == size


def test_our_own_models() -> None:
    assert published_bytes(PACKAGED_MODEL) == 2
    assert published_bytes(None) == 4


def test_running_checkpoints() -> None:
    def most(steps: float, **settings: object) -> int:
        return training_bytes(TrainConfig.model_validate(settings), steps, 2)

    assert most(200) == 2, "the last step writes none; the model is there twice"
    assert most(201) == 12 + 2
    assert most(401) == 2 * 12
    assert most(10_000) == 2 * 12
    assert most(10_000, num_to_keep=3) == 4 * 12
    assert most(501, num_to_keep=3) == 2 * 12 + 2
    assert most(10_000, save_every_steps=0) == 2
    assert most(10_000, precision="bf16_weights") == 2 * 6
    assert most(201, parallel="fsdp") == 12 + 4 + 2
    assert most(10_000, lora={}, parallel="fsdp") == 2
