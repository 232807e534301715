"""Training settings: explained, checked, and free of heavy imports."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from step_ray.training.config import LoraConfig, TrainConfig


def test_every_field_is_explained():
    for model in (TrainConfig, LoraConfig):
        for name, field in model.model_fields.items():
            assert field.description, name


def test_no_heavy_imports():
    code = (
        "import sys, step_ray.training.config;"
        "heavy = ('torch', 'ray', 'transformers', 'pyarrow');"
        "print([name for name in heavy if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 8}, "set tokens_per_batch"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"mask": {"correct": 0.0}}, "give one verdict a positive one"),
        ({"mask": {"correct": -1.0}}, "at least 0"),
        ({"mask": {"wrong": 1.0}}, "'correct', 'error' or 'correction'"),
        ({"mask": "some"}, "'partial', 'none' or 'corrections_only'"),
        ({"epoch": 3}, "Extra inputs"),
        ({"lora": {"rank": 4}}, "Extra inputs"),
        ({"dpo_beta": 0.5}, "set loss to dpo"),
        ({"dpo_reference_free": True}, "set loss to dpo"),
        ({"loss": "dpo", "normalize": "turn"}, "leave normalize at token"),
        ({"compile": True, "parallel": "fsdp"}, "leave it false"),
        ({"keep": "best"}, "set validation_fraction"),
        ({"validate_every_steps": 5}, "set validation_fraction"),
    ],
)
def test_wrong_settings(wrong, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig.model_validate(wrong)


def test_it_comes_back_from_json():
    config = TrainConfig(mask={"correction": 2.0}, lora=LoraConfig(targets=("q_proj",)))
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config
