"""Training settings: explained, checked, and free of heavy imports."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from step_ray.config_text import ConfigError
from step_ray.config_training import LoraConfig, TrainConfig, load_train_config


def test_every_field_is_explained():
    for model in (TrainConfig, LoraConfig):
        for name, field in model.model_fields.items():
            assert field.description, name


def test_no_heavy_imports():
    code = (
        "import sys, step_ray.config_training;"
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
        ({"epochs": True}, "should be a number"),
        ({"grad_clip": float("inf")}, "finite number"),
        ({"lora": {"alpha": float("inf")}}, "finite number"),
        ({"mask": {"correct": 0.0}}, "give one verdict a positive one"),
        ({"mask": {"correct": -1.0}}, "at least 0"),
        ({"mask": {"wrong": 1.0}}, "'correct', 'error' or 'correction'"),
        ({"loss": "reward_weighted", "normalize": "trajectory"}, "use token or turn"),
        ({"mask": "some"}, "'partial', 'none' or 'corrections_only'"),
        ({"epoch": 3}, "Extra inputs"),
        ({"lora": {"rank": 4}}, "Extra inputs"),
        ({"dpo_beta": 0.5}, "set loss to dpo"),
        ({"dpo_reference_free": True}, "set loss to dpo"),
        ({"loss": "dpo", "normalize": "turn"}, "leave normalize at token"),
        ({"compile": True, "parallel": "fsdp"}, "leave it false"),
        ({"keep": "best"}, "set validation_fraction"),
        ({"turn_weights": "weights.parquet"}, "set loss, or leave it out"),
        ({"workers": 2, "min_workers": 3}, "lower it"),
        ({"trackers": ["wandb", "wandb"]}, "name each once"),
        ({"trackers": ["tensorbord"]}, "'tensorboard', 'wandb' or 'mlflow'"),
        ({"validate_every_steps": 5}, "set validation_fraction"),
    ],
)
def test_wrong_settings(wrong, message):
    with pytest.raises(ValidationError, match=message):
        TrainConfig.model_validate(wrong)


def test_it_comes_back_from_json():
    config = TrainConfig(mask={"correction": 2.0}, lora=LoraConfig(targets=("q_proj",)))
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


def test_settings_from_a_file_and_overrides(tmp_path):
    path = tmp_path / "training.yaml"
    path.write_text("epochs: 2\nlora: {r: 4}\n")
    found = load_train_config(path, ["lora.alpha=8", "learning_rate=1e-4"])
    assert (found.epochs, found.lora.r, found.lora.alpha, found.learning_rate) == (2, 4, 8.0, 1e-4)
    assert load_train_config(None) == TrainConfig()
    assert load_train_config(None, ["training.epochs=2"]).epochs == 2, "as messages name it"
    path.write_text("epochs: 0\nbatch: 2\n")
    with pytest.raises(ConfigError) as error:
        load_train_config(path, ["learning_rate=2"])
    assert len(error.value.problems) == 3
    for part in ("epochs", "batch: unknown field", "learning_rate"):
        assert part in str(error.value)


@pytest.mark.parametrize("text", ["output: x\nenv: alfworld\n", "training: {epochs: 2}\n"])
def test_a_runs_config_is_no_trainings(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"1 problem\n.* give the fields of its section training"):
        load_train_config(path)
