"""Too little memory: the settings to change are named, in an order that makes sense."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from test_training_loop import EPISODES, config, start  # noqa: E402, F401 - start is a fixture

from step_ray.config_training import LoraConfig  # noqa: E402
from step_ray.training import steps  # noqa: E402
from step_ray.training.alone import train_alone  # noqa: E402
from step_ray.training.memory import OutOfMemory, advice, explained, highest_gb  # noqa: E402


def test_what_is_advised():
    first = advice(config(micro_tokens=8192), 900)
    order = ["micro_tokens to 4096", "gradient_checkpointing", "training.lora", "fsdp"]
    assert [first.index(part) for part in order] == sorted(first.index(part) for part in order)
    assert "max_length" not in first
    assert "micro_tokens to 900 " in advice(config(micro_tokens=1000), 900)
    done = config(
        micro_tokens=900, gradient_checkpointing=True, lora=LoraConfig(), parallel="fsdp", workers=4
    )
    assert advice(done, 900) == (
        "set training.max_length below 900, the longest sample's tokens; "
        "then use more training.workers (now 4)"
    )


def test_a_real_allocation_that_fails():
    with pytest.raises(OutOfMemory, match=r"out of memory: set training\.grad.*DefaultCPU"):  # noqa: SIM117
        with explained(config(micro_tokens=10), 20):
            torch.empty(2**62, dtype=torch.int8)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_a_training_says_what_to_change(start, tmp_path, monkeypatch, error):  # noqa: F811
    def fails(*_):
        raise error

    monkeypatch.setattr(steps, "learning_rate", fails)
    with pytest.raises(OutOfMemory, match=r"training\.micro_tokens to \d+ \(now 400\)"):
        train_alone(start, EPISODES, tmp_path, config())


def test_other_failures_stay_what_they_are():
    with pytest.raises(RuntimeError, match="mat1 and mat2") as found, explained(config(), 9):
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert not isinstance(found.value, OutOfMemory)


def test_what_this_process_takes():
    before = highest_gb(torch.device("cpu"))
    held = torch.ones(300_000_000 // 4 + round(before * 2.5e8))
    assert highest_gb(torch.device("cpu")) >= held.nbytes / 1e9 > 0.3
