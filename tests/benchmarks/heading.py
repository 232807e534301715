"""What every benchmark says of itself: when, how and where it was measured."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from step_ray import __version__
from step_ray.machine import machine, packages

_RESULTS = Path(__file__).parents[2] / "docs" / "benchmarks"


def heading(benchmark: str, command: str = "") -> dict[str, Any]:
    """The first entries of a result; ``command`` is ``make bench-...`` unless it is given."""
    return {
        "benchmark": benchmark,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command or f"make bench-{benchmark}",
        "arguments": sys.argv[1:],
        "machine": machine(),
        "load_average": [_load()],
        "versions": {"step_ray": __version__, **packages()},
    }


def publish(result: dict[str, Any], out: Path | None) -> None:
    """Prints a result as one line, with the load of the machine at the end beside that at the
    beginning, and writes it to ``out``, if there is one."""
    result["load_average"].append(_load())
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def committed(benchmark: str) -> Path:
    """The file of a result that the documentation shows."""
    return _RESULTS / f"{benchmark}.json"


def _load() -> float:
    return round(os.getloadavg()[0], 2)
