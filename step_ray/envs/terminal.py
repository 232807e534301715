"""What a person at a terminal types and sees: options of environments, and text that is only text.

What environments say may come from anywhere: it never becomes markup or a terminal's control code.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from step_ray.config_text import ConfigError, apply_overrides
from step_ray.envs import make_env
from step_ray.envs.base import EnvError, TextEnv


def open_env(name: str, data: Path | None, settings: Sequence[str]) -> TextEnv:
    """An environment with options given as ``option=value`` or ``option.key=value``, in YAML.

    Raises EnvError as ``make_env`` does, and ConfigError for what is no setting.
    """
    options: dict[str, Any] = {}
    problems = apply_overrides(options, settings)
    if problems:
        raise ConfigError(problems, "--set")
    return make_env(name, data, **options)


def splits_of(env: TextEnv) -> tuple[str, ...]:
    """The names of its splits. Raises EnvError if it does not say them."""
    splits = getattr(env, "splits", None)
    if not splits:
        raise EnvError(f"{env.name} does not say which splits it has; name one with --split")
    return tuple(splits)


def plain(text: str) -> str:
    """The text with a visible sign in place of whatever would steer the terminal."""
    return "".join(map(_shown, text))


def said(text: str, style: str = "") -> Text:
    """Text of an environment for rich's console."""
    return Text(plain(text), style)


def _shown(char: str) -> str:
    if char.isprintable() or char in "\n\t":
        return char
    return " " if unicodedata.category(char) == "Zs" else "\N{REPLACEMENT CHARACTER}"
