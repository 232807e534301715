"""Train a model on published trajectories, without a recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from step_ray.commands.errors import plain_errors
from step_ray.commands.options import Set


def train(
    model: Annotated[Path, typer.Argument(help="Hugging Face folder to start from")],
    data: Annotated[list[str], typer.Argument(help="folders of published datasets: what is kept")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for what is trained")],
    config: Annotated[
        Path | None, typer.Option(help="YAML file with fields of the section training")
    ] = None,
    overrides: Set = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="without Ray, in this process; so is it under torchrun")
    ] = False,
) -> None:
    """Train a model on published trajectories; run again, it goes on where it was."""
    with plain_errors():
        from step_ray.config_training import load_train_config

        settings = load_train_config(config, overrides or [])
        from step_ray import store
        from step_ray.progress import Progress

        for folder in data:
            store.read_manifest(folder)  # a wrong name is said at once
        progress = Progress()
        if alone or "TORCHELASTIC_RUN_ID" in os.environ:
            from step_ray.training.alone import train_alone

            if int(os.environ.get("RANK", "0")):
                train_alone(model, data, output, settings)
                return
            with progress.stage("train", unit="steps") as bar:
                result = train_alone(model, data, output, settings, bar)
        else:
            from step_ray.config import RayConfig
            from step_ray.recipes.cluster import cluster
            from step_ray.training.loop import train as train_on_ray

            with cluster(RayConfig()), progress.stage("train", unit="steps") as bar:
                result = train_on_ray(model, data, output, settings, bar)
        typer.echo(_what_became_of(result.facts))
        for name, value in result.metrics.items():
            if "loss" in name:
                typer.echo(f"{name:24} {value:.4f}")
        typer.echo(f"Model: {result.model.absolute()}")


def _what_became_of(facts: Mapping[str, Any]) -> str:
    """The counts of :class:`step_ray.training.masks.Counts` as a line."""
    said = f"{facts['samples']} samples of {facts['tokens']:,} tokens,"
    said += f" {facts['trained_tokens']:,} of them trained"
    if facts["truncated"]:
        said += f"; {facts['truncated']} lost their oldest {facts['truncated_turns']} turns"
    left_out = {
        "too_long": "too long",
        "nothing_to_train": "without a turn to train",
        "worthless": "with weights of 0",
        "unfaithful": "with text that the tokenizer cannot write",
    }
    parts = [f"{facts[name]} {why}" for name, why in left_out.items() if facts[name]]
    return said + (f"; left out: {', '.join(parts)}" if parts else "")
