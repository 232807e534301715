"""Opens a local Hugging Face folder, for training and inference, and says what is wrong with it.

Nothing is downloaded, no code of the folder runs, and weights come from safetensors only.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from step_ray.models.base import ModelError
from step_ray.models.chat import end_of_turn, prompt_ids
from step_ray.models.encoding import TemplateError
from step_ray.models.folder import model_folder
from step_ray.models.quiet import quiet

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


def load_model(
    path: str | Path,
    dtype: str | torch.dtype = "float32",
    *,
    device: str | torch.device = "cpu",
    attention: str = "sdpa",
    adapter: str | Path | None = None,
) -> PreTrainedModel:
    """The causal language model of a local folder, in evaluation mode; with the LoRA ``adapter``
    of another folder merged into it.

    Raises :class:`ModelError` if a folder is not there or is incomplete: a weight that the files
    lack would otherwise be random.
    """
    folder = model_folder(path)
    if not any(folder.glob("*.safetensors")):
        if (folder / "adapter_config.json").exists():
            raise ModelError(
                f"{folder} holds an adapter alone: give the folder of its base model as the model, "
                "and this one as the adapter"
            )
        raise ModelError(
            f"{folder} holds no *.safetensors: save the model with save_pretrained(), or convert "
            "its weights to safetensors"
        )
    try:
        with quiet():
            model, info = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=torch_dtype(dtype),
                attn_implementation=attention,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
        raise ModelError(f"cannot load the model in {folder}: {error}") from error
    if info["missing_keys"] or info["mismatched_keys"]:
        wrong = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
        raise ModelError(
            f"the weights in {folder} are incomplete: {', '.join(wrong[:3])}"
            f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''} missing or of another "
            "shape; save or copy the model again"
        )
    if adapter is not None:
        model = _merged(model, Path(adapter))
    return model.to(device).eval()


def _merged(model: PreTrainedModel, adapter: Path) -> Any:
    try:
        import peft
    except ImportError as error:
        raise ModelError(
            f"an adapter needs peft ({error}): pip install 'step-ray[torch]'"
        ) from None
    if not (adapter / "adapter_model.safetensors").is_file():
        raise ModelError(f"{adapter} holds no adapter_model.safetensors: save it with peft")
    try:
        whole = peft.PeftModel.from_pretrained(model, str(adapter), local_files_only=True)
        return cast(Any, whole).merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(f"the adapter in {adapter} does not fit its model: {error}") from error


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder.

    Raises :class:`ModelError` if there is none, or if it has no chat template that can be used.
    """
    folder = model_folder(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, TypeError) as error:
        raise ModelError(f"cannot load the tokenizer in {folder}: {error}") from error
    check_template(tokenizer, str(folder))
    return tokenizer


def check_template(tokenizer: PreTrainedTokenizerBase, where: str = "the tokenizer") -> None:
    """Raises :class:`ModelError` unless chats can be rendered for the tokenizer's model."""
    try:
        prompt_ids([{"role": "user", "content": "a"}], tokenizer)
    except ModelError as error:
        raise ModelError(f"{where} cannot be asked: {error}") from error


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids of the tokens that end a reply: the template's own, the tokenizer's and the model's.

    Raises :class:`ModelError` if there is none.
    """
    ends = {*template_ends(tokenizer)}
    configured = getattr(model.generation_config, "eos_token_id", None)
    ends.update([configured] if isinstance(configured, int) else configured or [])
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    if not ends:
        raise ModelError("neither the chat template nor the configuration says how a reply ends")
    return frozenset(ends)


def template_ends(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The id of the token that ends a reply in the chat template; empty for a template that cannot
    be trained on, which does not tell."""
    with contextlib.suppress(TemplateError):
        return frozenset({end_of_turn(tokenizer)})
    return frozenset()


def torch_dtype(name: str | torch.dtype) -> torch.dtype:
    """The torch type of a name; raises :class:`ModelError` for one that models cannot run in."""
    if isinstance(name, torch.dtype):
        return name
    if name not in DTYPES:
        raise ModelError(f"unknown dtype {name!r}: choose one of {', '.join(DTYPES)}")
    return DTYPES[name]
