"""The arithmetic that is said to be needed is what torch counts."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from small_models import llama, with_adapters  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from step_ray.training import flops, losses, table  # noqa: E402
from step_ray.training.flops import Arithmetic, arithmetic, peak  # noqa: E402
from step_ray.training.group import Group  # noqa: E402
from step_ray.training.losses import MaskedLoss  # noqa: E402
from step_ray.training.masks import Sample, TrainedSpan  # noqa: E402
from step_ray.training.passes import Pass  # noqa: E402
from step_ray.training.tally import Tally  # noqa: E402

CPU = torch.device("cpu")


@pytest.mark.parametrize(("make", "tolerance"), [(llama, 1e-6), (with_adapters, 0.1)])
def test_as_torch_counts(make, tolerance, monkeypatch):
    monkeypatch.setattr(losses, "_ROWS", 1)  # no rows but those with loss
    model = make()
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    base.set_attn_implementation(
        "eager"
    )  # whose products are counted, those above the diagonal too
    cost = arithmetic(model)
    module = MaskedLoss(model)
    ids = torch.randint(0, 64, (1, 48), generator=torch.Generator().manual_seed(0))
    weights = torch.zeros(ids.shape)
    weights[:, 40:] = 1.0
    with FlopCounterMode(display=False) as counter:
        module(ids, weights)[0].backward()
    expected = cost.token * 48 + cost.trained * 8 + cost.pair * 48 * 48
    # With adapters, the first layer's input needs no gradient.
    assert counter.get_total_flops() == pytest.approx(expected, rel=tolerance)


def test_a_sample_attends_to_itself_alone():
    assert Arithmetic(token=1.0, trained=10.0, pair=100.0).of(3, 2) == 3 + 20 + 600


def test_experts_are_not_counted():
    config = transformers.MixtralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, num_local_experts=2,
    )  # fmt: skip
    assert arithmetic(transformers.MixtralForCausalLM(config)) is None


def test_peaks_are_known_by_name(monkeypatch):
    assert peak(CPU) is None
    for name, expected in (
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("Something Else", None),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _, name=name: name)
        assert flops.peak(torch.device("cuda")) == expected


def test_the_share_of_the_peak(monkeypatch):
    from step_ray.training import tally as module

    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    one = Pass((0,), torch.zeros(1, 4), torch.ones(1, 4), torch.zeros(1, 4), None)
    for known, expected in ((1e6, 0.25), (None, None)):
        tally = Tally(Group(0, 1, CPU), (), peak=known)
        tally.add(one, torch.tensor(2.0), torch.zeros(0, dtype=torch.float64))
        tally.step(4, 4.0, 5e5)
        now[0] += 2.0
        assert tally.metrics().get("mfu") == expected


def test_trained_tokens_of_samples():
    spans = [TrainedSpan(2, 4, 0, "correct", "")]
    made = table.from_samples(
        [Sample("a", [1] * 5, [0, 0, 1, 1, 0], spans), Sample("b", [1] * 4, [0, 0, 1, 1], spans)]
    )
    assert made.trained == [2, 2]
