"""A model behind another vocabulary: what it has learned of reading and copying stays."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from step_ray.models.load import load_model, load_tokenizer


def with_vocabulary(folder: Path, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The float32 model in ``folder``, whose input and output layer are one, with the tokens of
    ``tokenizer``, which has to be of the same kind (what a token stands for is in its text).

    Tokens that both vocabularies have keep their vector; each other begins as the mean of those
    that its text has in the old vocabulary. All other weights are as they were.
    """
    model, before = load_model(folder, "float32"), load_tokenizer(folder)
    known, vocabulary = before.get_vocab(), tokenizer.get_vocab()
    old = model.get_input_embeddings().weight.detach().clone()
    new = torch.empty(len(tokenizer), old.shape[1])
    for token, number in vocabulary.items():
        pieces = [known[token]] if token in known else _pieces(before, tokenizer, number)
        new[number] = old[pieces].mean(0)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(new)
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    return model


def _pieces(
    before: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase, number: int
) -> list[int]:
    ids: list[int] = before.encode(tokenizer.decode([number]), add_special_tokens=False)
    return ids
