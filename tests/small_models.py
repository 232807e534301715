"""Models of several families, with random weights and next to no size."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

_SIZE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}


def llama(**settings: Any):
    return _make("Llama", **_SIZE, tie_word_embeddings=True, **settings)


def gemma():
    """Its logits are more than its output layer."""
    return _make("Gemma2", **_SIZE, head_dim=16, final_logit_softcapping=0.5)


def qwen():
    return _make("Qwen2", **_SIZE)


def mistral():
    """With a window shorter than the samples."""
    return _make("Mistral", **_SIZE, head_dim=16, sliding_window=6)


def mamba():
    """A recurrent state runs through the whole row."""
    return _make("Mamba", vocab_size=64, hidden_size=32, state_size=4, num_hidden_layers=2)


def with_adapters():
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(llama(), settings)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, so that half of the gradients were
            torch.nn.init.normal_(parameter, std=0.1)
    return model.train()


def _make(family: str, **settings: Any):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**settings)
    return getattr(transformers, f"{family}ForCausalLM")(config).train()
