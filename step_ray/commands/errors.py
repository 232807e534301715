"""Errors of commands, as a person should see them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import typer

_EXTRAS = {
    "ray": "ray,torch",
    "torch": "torch",
    "transformers": "torch",
    "peft": "torch",
    "safetensors": "torch",
    "httpx": "remote",
    "vllm": "vllm",
    "gymnasium": "gym",
}
"""What brings a module that only some commands need."""


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Errors that say what, where and how to fix it need no traceback. Others keep theirs."""
    from step_ray.config import ConfigError
    from step_ray.envs.base import EnvError
    from step_ray.lineage import RunError
    from step_ray.manifest import StoreError

    known: list[type[Exception]] = [ConfigError, EnvError, RunError, StoreError]
    try:
        yield
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        remedy = f'pip install "step-ray[{extra}]"; step-ray doctor says what else is missing'
        typer.echo(f"step-ray: {error.name} is not installed -> {remedy}", err=True)
        raise typer.Exit(2) from None
    except Exception as error:
        known += _loaded("step_ray.models.base", "ModelError")
        known += _loaded("step_ray.teacher.base", "TeacherError")
        known += _loaded("step_ray.training.checkpoint", "TrainError")
        known += _loaded("step_ray.synthesis.pipeline", "PipelineError")
        known += _loaded("step_ray.exchange.records", "ExchangeError")
        known += _loaded("step_ray.models.encoding", "TemplateError")
        known += _loaded("step_ray.download", "DownloadError")
        known += _loaded("step_ray.bucket", "BucketError")
        known += _loaded("step_ray.drills.lab", "DrillRefused")
        if not isinstance(error, tuple(known)):
            raise
        typer.echo(f"step-ray: {error}", err=True)
        raise typer.Exit(2) from None


def _loaded(module: str, name: str) -> list[type[Exception]]:
    """An exception class of a heavy module, only if that was loaded: else it was not raised."""
    return [getattr(sys.modules[module], name)] if module in sys.modules else []
