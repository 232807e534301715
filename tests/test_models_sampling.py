"""Which token comes next, and whether rounding could have made it another one."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from step_ray.models.sampling import Draw, pick  # noqa: E402


def test_sampling_follows_the_distribution():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -30.0]])
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(4000, 5, generator=generator, dtype=torch.float64)
    rows = logits.expand(4000, -1)

    def frequencies(temperature: float, top_p: float) -> torch.Tensor:
        draws = [Draw(temperature, top_p, one) for one in noise]
        drawn = torch.tensor([token for token, _ in pick(rows, draws)])
        return torch.bincount(drawn, minlength=5) / 4000

    expected = torch.softmax(logits[0] / 0.8, 0)
    assert torch.allclose(frequencies(0.8, 1.0), expected, atol=0.03)
    kept = torch.softmax(logits[0], 0)[:2]
    assert torch.allclose(frequencies(1.0, 0.8)[:2], kept / kept.sum(), atol=0.03)
    assert frequencies(1.0, 0.8)[2:].sum() == 0
    assert frequencies(1.0, 0.05)[0] == 1


def test_unsafe_choices_are_known():
    """Whatever rounding does within the tolerance, a choice that is called safe stays."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(300, 40, generator=generator, dtype=torch.float64) * 3
    noise = torch.rand(300, 40, generator=generator, dtype=torch.float64)
    draws = [Draw(0.7, [1.0, 0.9, 0.5][i % 3], noise[i]) for i in range(200)] + [Draw()] * 100
    picked = pick(logits, draws, tolerance=1e-3)
    assert 200 < sum(safe for _, safe in picked) < 300
    slack = logits.abs().amax(1, keepdim=True) * 1e-3
    for _ in range(20):
        moved = logits + slack * (2 * torch.rand(300, 40, generator=generator) - 1)
        for (token, safe), (other, _) in zip(picked, pick(moved, draws), strict=True):
            assert token == other or not safe
