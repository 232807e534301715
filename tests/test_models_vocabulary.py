"""A model behind another vocabulary keeps what does not depend on it."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from step_ray.models.load import load_model, load_tokenizer  # noqa: E402
from step_ray.models.make import PACKAGED_MODEL  # noqa: E402
from step_ray.models.tiny import make_tokenizer, save  # noqa: E402
from step_ray.models.vocabulary import with_vocabulary  # noqa: E402

TEXTS = ["You see a giraffe and 12 blowtorches.", "Focus on the giraffe. Action: go to desk 1"] * 9


def test_the_same_vocabulary_gives_the_same_model() -> None:
    tokenizer, before = load_tokenizer(PACKAGED_MODEL), load_model(PACKAGED_MODEL, "float32")
    after = with_vocabulary(PACKAGED_MODEL, tokenizer).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.state_dict().items())


def test_new_words_begin_as_their_pieces(tmp_path: Path) -> None:
    known, before = load_tokenizer(PACKAGED_MODEL), load_model(PACKAGED_MODEL, "float32")
    tokenizer = make_tokenizer(TEXTS)
    model = with_vocabulary(PACKAGED_MODEL, tokenizer)
    old, new = (one.get_input_embeddings().weight for one in (before, model))
    assert new.shape == (len(tokenizer), old.shape[1])
    for token in ("<|user|>", "<|end|>", "\u0120desk", "\u01201"):
        number, other = (one.convert_tokens_to_ids(token) for one in (tokenizer, known))
        assert torch.equal(new[number], old[other]), token
    giraffe = tokenizer.convert_tokens_to_ids("\u0120giraffe")
    pieces = known.encode(" giraffe", add_special_tokens=False)
    assert len(pieces) > 1
    assert torch.equal(new[giraffe], old[pieces].mean(0))
    body = [name for name in before.state_dict() if "embed" not in name and "lm_head" not in name]
    same = model.state_dict()
    assert all(torch.equal(same[name], before.state_dict()[name]) for name in body)
    assert model.lm_head.weight is model.get_input_embeddings().weight

    again = load_model(save(model, tokenizer, tmp_path / "model"), "float32")
    ids = tokenizer(TEXTS[0], return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.allclose(again(ids).logits, model(ids).logits)
    assert again.generation_config.eos_token_id == tokenizer.eos_token_id
