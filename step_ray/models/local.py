"""The ``local`` backend: any transformers causal language model, in this process.

Made for CPUs and small models. On a GPU an engine with fused kernels (vLLM) is the better choice.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from step_ray.models.base import ModelError, Reply, Sampling, SchemaUnsupported
from step_ray.models.chat import prompt_ids
from step_ray.models.engine import Engine, Usage
from step_ray.models.fingerprint import model_fingerprint
from step_ray.models.load import check_template, end_tokens, load_model, load_tokenizer, torch_dtype


class LocalModel:
    """Answers many chats at once with a model from a local folder, or with one in memory.

    The LoRA ``adapter`` of a folder is merged into the model of a folder.
    A model object must come with its ``tokenizer`` and belongs to the backend until
    :meth:`close`. ``slots`` is the number of chats that run at once and should be at least the
    number of episodes under way, so that each finds what it has said so far in the cache.
    ``max_length`` is the context, by default the model's but not more than 4096: every slot has a
    cache of that size. ``threads`` is what PyTorch may use, in the whole process.

    With ``exact`` (the default in float32 and float64) the reply to a request is the same whatever
    else is in the batch. In bfloat16 it is not: rounding is too coarse to tell near-ties.

    Raises :class:`ModelError` if the model cannot be loaded or is of an unsupported kind.
    """

    fingerprint: str

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        adapter: str | Path | None = None,
        slots: int = 32,
        dtype: str = "float32",
        device: str = "cpu",
        max_length: int | None = None,
        threads: int = 1,
        exact: bool | None = None,
    ) -> None:
        if slots < 1 or threads < 1 or (max_length is not None and max_length < 2):
            raise ModelError("slots and threads must be at least 1, max_length at least 2")
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if isinstance(model, PreTrainedModel):
            if adapter is not None:
                raise ModelError("an adapter goes with the folder of a model, not with an object")
            if tokenizer is None:
                raise ModelError("a model object needs its tokenizer: pass tokenizer=")
            self.fingerprint = _object_fingerprint(model, tokenizer)
            if model.dtype != torch_dtype(dtype) or model.device != torch.device(device):
                model = copy.deepcopy(model).to(device=device, dtype=torch_dtype(dtype))
            model.eval()
            check_template(tokenizer)
        else:
            tokenizer = load_tokenizer(model) if tokenizer is None else tokenizer
            self.fingerprint = model_fingerprint(model, adapter)
            model = load_model(model, dtype, device=device, adapter=adapter)
        config = model.config.get_text_config()
        if len(tokenizer) > config.vocab_size:
            raise ModelError(
                f"the tokenizer has {len(tokenizer)} tokens, the model {config.vocab_size}: they "
                "do not belong together"
            )
        limit = int(config.max_position_embeddings)
        if max_length is not None and max_length > limit:
            raise ModelError(f"max_length {max_length} exceeds the model's context of {limit}")
        self._tokenizer = tokenizer
        self._engine = Engine(
            model,
            end_tokens(model, tokenizer),
            slots=slots,
            max_length=max_length or min(limit, 4096),
            exact=exact,
        )

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Answers one chat. Cancelling the task frees its slot at the next token.

        Raises :class:`ModelError` for a prompt that does not fit the context, a chat that the
        template refuses, sampling out of range, and any ``schema``: this backend enforces none.
        """
        if schema is not None:
            raise SchemaUnsupported(
                "the local backend cannot enforce a schema: ask without one, or use vllm or remote"
            )
        if sampling.max_tokens < 1 or sampling.temperature < 0 or not 0 < sampling.top_p <= 1:
            raise ModelError(
                "sampling needs max_tokens >= 1, temperature >= 0 and top_p in (0, 1], not "
                f"{sampling}"
            )
        prompt = prompt_ids(messages, self._tokenizer)
        done = await asyncio.wrap_future(self._engine.submit(prompt, sampling))
        return Reply(
            text=self._tokenizer.decode(
                done.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
            ),
            finish_reason="stop" if done.stopped else "length",
            prompt_tokens=len(prompt),
            completion_tokens=done.count,
            cached_tokens=done.cached,
        )

    def usage(self) -> Usage:
        """What has been computed so far, and in how many seconds."""
        return self._engine.usage()

    def close(self) -> None:
        """Stops the backend; chats under way fail with :class:`ModelError`."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _object_fingerprint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of a model in memory. It differs from the one of the folder it would be saved to."""
    whole = hashlib.sha256(model.config.to_json_string(use_diff=True).encode())
    for name, weight in sorted(model.state_dict().items()):
        whole.update(f"\0{name} {weight.dtype} {tuple(weight.shape)}\0".encode())
        whole.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    whole.update((backend.to_str() if backend else repr(sorted(tokenizer.get_vocab()))).encode())
    whole.update(str(tokenizer.chat_template).encode())
    return whole.hexdigest()
