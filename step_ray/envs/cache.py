"""Where environments keep what they made once and may make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$STEP_RAY_CACHE``, else ``~/.cache/step-ray``."""
    named = os.environ.get("STEP_RAY_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "step-ray"
