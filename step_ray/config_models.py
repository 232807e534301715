"""Where a model's replies come from: a server elsewhere, or a folder that is served here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator

from step_ray.config_section import EXECUTION, Section
from step_ray.config_text import Problem

_SECRET: dict[str, Any] = {**EXECUTION, "secret": True}  # errors do not show the value


def url_problem(url: str) -> str:
    """What is wrong with the base URL of a server and what to do, "" if nothing is."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        return "not an http(s) address -> write it like http://host:8000/v1"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return (
            "holds a user, a query or a fragment, where keys hide -> put the key into an "
            "environment variable and name that in key_env"
        )
    return ""


class PriceConfig(Section):
    """Money per million tokens, in any currency."""

    prompt: float = Field(ge=0, description="price of a million prompt tokens, >= 0")
    completion: float = Field(ge=0, description="price of a million reply tokens, >= 0")
    cached: float | None = Field(
        default=None,
        ge=0,
        description="price of a million prompt tokens from the server's cache; null: as the others",
    )


class RemoteModelConfig(Section):
    """A model behind a server that speaks OpenAI's chat completions."""

    backend: Literal["remote"] = Field(
        default="remote",
        description="remote: an OpenAI-compatible server; vllm or local: a folder, served here",
    )
    base_url: str = Field(
        description="the server's address up to /v1, like http://host:8000/v1",
        json_schema_extra=_SECRET,
    )
    model: str = Field(min_length=1, description="the model's name on that server")
    revision: str = Field(
        default="", description="what the weights are called, if the name does not say it"
    )
    key_env: str = Field(
        default="",
        pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$",
        description="the NAME of the environment variable, set where teachers run, that holds the "
        "key; never the key itself",
        json_schema_extra=_SECRET,
    )
    extra: dict[str, Any] = Field(
        default_factory=dict,
        description="further fields of every request; null removes one of ours",
    )
    concurrency: int = Field(
        default=16, ge=1, description="requests under way at once", json_schema_extra=EXECUTION
    )
    timeout: float = Field(
        default=120.0,
        gt=0,
        description="seconds for one attempt, > 0",
        json_schema_extra=EXECUTION,
    )
    deadline: float = Field(
        default=600.0,
        gt=0,
        description="seconds for a reply with all attempts and waits, > 0",
        json_schema_extra=EXECUTION,
    )
    price: PriceConfig | None = Field(
        default=None,
        description="prices, so that a run says what it cost; null: unknown",
        json_schema_extra=EXECUTION,
    )

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if problem := url_problem(value):
            raise ValueError(problem)
        return value


ENGINE_OURS = (
    "model",
    "tokenizer",
    "trust_remote_code",
    "enable_prefix_caching",
    "enable_lora",
    "seed",
)
"""Arguments of vLLM's engine that are decided here: no code of a folder is run, prefixes are
cached, and what is served is what the config names."""

DType = Literal["float32", "float64", "bfloat16"]


def _not_ours(engine: dict[str, Any]) -> dict[str, Any]:
    ours = [name for name in ENGINE_OURS if name in engine]
    if ours:
        raise ValueError(f"{', '.join(ours)}: set by step-ray itself -> remove it")
    return engine


EngineArguments = Annotated[dict[str, Any], AfterValidator(_not_ours)]
"""Of vLLM, checked as far as they are known without it."""


class AutoscaleConfig(Section):
    """More replicas while requests pile up, fewer when they do not."""

    max_replicas: int = Field(ge=2, description="replicas at most, more than `replicas`")
    requests_per_replica: float = Field(
        default=32.0,
        gt=0,
        description="requests under way in each replica that are aimed at, > 0",
    )


class Replicas(Section):
    """How many engines with the same model answer side by side."""

    replicas: int = Field(
        default=1,
        ge=1,
        description="engines that answer side by side, >= 1; with autoscale: at least so many",
        json_schema_extra=EXECUTION,
    )
    autoscale: AutoscaleConfig | None = Field(
        default=None,
        description="max_replicas and requests_per_replica; null: always `replicas`",
        json_schema_extra=EXECUTION,
    )
    nodes: dict[str, str] = Field(
        default_factory=dict,
        description="labels of the nodes that engines may run on, such as "
        "{ray.io/accelerator-type: A100}; empty: any node with what they ask for",
        json_schema_extra=EXECUTION,
    )

    def scaling(self) -> int | dict[str, Any]:
        """The number of replicas, or Ray Serve's autoscaling settings."""
        if self.autoscale is None:
            return self.replicas
        return {
            "min_replicas": self.replicas,
            "max_replicas": self.autoscale.max_replicas,
            "target_ongoing_requests": self.autoscale.requests_per_replica,
        }

    def scaling_problems(self, section: str) -> Iterator[Problem]:
        """What is wrong though every field is right by itself."""
        if self.autoscale is not None and self.autoscale.max_replicas <= self.replicas:
            yield (
                (f"{section}.autoscale.max_replicas", f"{section}.replicas"),
                f"{section}.autoscale.max_replicas: not more than replicas "
                f"({self.autoscale.max_replicas} <= {self.replicas}) -> raise it, or remove "
                f"{section}.autoscale",
            )


class _Folder(Replicas):
    model: str = Field(min_length=1, description="path of a Hugging Face folder")
    adapter: Path | None = Field(
        default=None, description="folder of a LoRA adapter (peft) on that model; null: none"
    )

    def problems(self, section: str) -> Iterator[Problem]:
        """What is wrong though every field is right by itself."""
        yield from folder_problems(section, self.model, self.adapter)
        yield from self.scaling_problems(section)


class LocalModelConfig(_Folder):
    """A folder in this project's own engine over transformers: for CPUs and small models."""

    backend: Literal["local"] = Field(
        default="local",
        description="remote: an OpenAI-compatible server; vllm or local: a folder, served here",
    )
    dtype: DType = Field(
        default="float32", description="number format of the weights: float32, float64 or bfloat16"
    )
    slots: int = Field(
        default=32, ge=1, description="replies generated at once", json_schema_extra=EXECUTION
    )
    context: int = Field(default=4096, ge=64, description="longest chat with its reply, in tokens")


class VllmModelConfig(_Folder):
    """A folder on vLLM."""

    backend: Literal["vllm"] = Field(
        default="vllm",
        description="remote: an OpenAI-compatible server; vllm or local: a folder, served here",
    )
    engine: EngineArguments = Field(
        default_factory=dict,
        description="vLLM's engine arguments, such as max_model_len and tensor_parallel_size",
    )
    gpus_per_replica: float = Field(
        default=0.0, ge=0, description="GPUs of each engine; 0: CPU", json_schema_extra=EXECUTION
    )

    def problems(self, section: str) -> Iterator[Problem]:
        yield from super().problems(section)
        yield from gpu_problems(section, self.engine, self.gpus_per_replica)


FolderModelConfig = LocalModelConfig | VllmModelConfig
"""A model that is served by this program."""


def folder_problems(section: str, model: str, adapter: Path | None) -> Iterator[Problem]:
    """What is wrong with the paths of a model and of its adapter."""
    if not (Path(model).expanduser() / "config.json").is_file():
        yield (
            (f"{section}.model",),
            f"{section}.model: not a Hugging Face folder, it has no config.json ({model}) -> "
            "download the model and give its folder",
        )
    if adapter is not None and (problem := adapter_problem(adapter)):
        yield (f"{section}.adapter",), f"{section}.adapter: {problem}"


def adapter_problem(adapter: Path) -> str:
    """What is wrong with the folder of an adapter and what to do, "" if nothing is."""
    if (adapter.expanduser() / "adapter_config.json").is_file():
        return ""
    return (
        f"not a LoRA adapter, it has no adapter_config.json ({adapter}) -> give a folder that "
        "peft has written"
    )


def gpu_problems(section: str, engine: Mapping[str, Any], gpus: float) -> Iterator[Problem]:
    """An engine cannot spread over more GPUs than its replica is given."""
    parts = [engine.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline")]
    if gpus and all(isinstance(part, int) for part in parts) and parts[0] * parts[1] > gpus:
        yield (
            (f"{section}.gpus_per_replica", f"{section}.engine"),
            f"{section}.gpus_per_replica: fewer than the engine is spread over ({gpus:g} < "
            f"{parts[0] * parts[1]}) -> raise it to tensor_parallel_size x pipeline_parallel_size",
        )


def _backend(raw: Any) -> str:
    found = raw.get("backend") if isinstance(raw, dict) else getattr(raw, "backend", None)
    return found if found in ("vllm", "local") else "remote"


ModelConfig = Annotated[
    Annotated[RemoteModelConfig, Tag("remote")]
    | Annotated[VllmModelConfig, Tag("vllm")]
    | Annotated[LocalModelConfig, Tag("local")],
    Discriminator(_backend),
]
"""A model that is asked. Its field ``backend`` decides which fields there are."""
