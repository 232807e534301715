"""``make bench-envs``: our environments against the stock packages, in one run on one machine.

Prints one JSON object as its last line and writes it to ``docs/benchmarks/envs.json``. Ratios are
CPU time of the original / CPU time of ours, of the process and its children; both figures stand
beside each, with wall times. The sides do the same work in turns, and the benchmark fails where
text-equivalent engines did not tell the same after every step. Two gigabytes of disk and ten
of memory are needed, and some eight minutes on two idle cores.

ALFWorld and ScienceWorld are measured against what ``make install-dev`` installs; ``ALFWORLD_DATA``
may name a folder of official games (``json_2.1.1``), otherwise they are generated.

WebShop's original is optional; its rows are left out, with a note, when these are not given:

- ``WEBSHOP_ORIGINAL``: a checkout of https://github.com/princeton-nlp/WebShop.
- ``WEBSHOP_DATA``: a folder with its ``items_shuffle_1000.json``, ``items_ins_v2_1000.json`` and
  ``items_human_ins.json`` (its ``setup.sh -d small`` fetches them).
- ``WEBSHOP_PYTHON``: an interpreter with what its text environment runs on, and Java 11 or newer
  on the path. Its own pins want Python 3.8; these work on Python 3.11::

    python3.11 -m venv webshop && webshop/bin/pip install flask==2.1.2 'werkzeug<2.2' \\
      beautifulsoup4==4.11.1 gym==0.24.0 thefuzz rank-bm25 rich tqdm 'numpy<2' pyjnius cython
    webshop/bin/pip install --no-deps pyserini==0.17.0

  spaCy's model, torch and a browser are not needed (see ``envs_webshop_original``).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import envs_alfworld
import envs_scienceworld
import envs_webshop
from heading import committed, heading, publish
from sizes import SMALL, Sizes

_ENVS = ("alfworld", "scienceworld", "webshop")
_GIVEN = ("ALFWORLD_DATA", "WEBSHOP_ORIGINAL", "WEBSHOP_PYTHON", "WEBSHOP_DATA")


def main() -> None:
    arguments = _arguments()
    sizes = SMALL if arguments.small else Sizes()
    if arguments.products:
        sizes = replace(sizes, products=arguments.products)
    command = [*(f"{name}=..." for name in _GIVEN if os.environ.get(name)), "make bench-envs"]
    result: dict[str, Any] = {
        **heading("envs", " ".join(command)),
        "left_out": [],
        "seconds": {},
    }
    with tempfile.TemporaryDirectory(prefix="step-ray-bench-") as scratch:
        measures: dict[str, Callable[[], dict[str, Any]]] = {
            "alfworld": lambda: envs_alfworld.measure(sizes, _given("ALFWORLD_DATA")),
            "scienceworld": lambda: envs_scienceworld.measure(sizes),
            "webshop": lambda: envs_webshop.measure(
                sizes, _given("WEBSHOP_DATA"), _original(Path(scratch)), Path(scratch)
            ),
        }
        details = {}
        for name in arguments.env:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            began = time.perf_counter()
            measured = measures[name]()
            result["seconds"][name] = round(time.perf_counter() - began)
            details[name] = measured.pop(name)
            result |= measured
    if "webshop" in arguments.env and "webshop_step_ratio" not in result:
        missing = [name for name in _GIVEN[1:] if not os.environ.get(name)]
        result["left_out"].append(
            f"WebShop's original was not measured: {', '.join(missing)} not set "
            "(tests/benchmarks/envs.py says how to get it)"
        )
        print(result["left_out"][-1], file=sys.stderr)
    result |= details
    publish(result, arguments.out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--env", nargs="+", choices=_ENVS, default=list(_ENVS))
    parser.add_argument("--products", type=int, help="of the large catalogue (default: 200000)")
    parser.add_argument("--small", action="store_true", help="only see that it works")
    parser.add_argument("--out", type=Path, help="file to write (default: docs/benchmarks)")
    arguments = parser.parse_args()
    if not arguments.out and not arguments.small and set(arguments.env) == set(_ENVS):
        arguments.out = committed("envs")
    return arguments


def _given(name: str) -> Path | None:
    value = os.environ.get(name)
    if value and not Path(value).exists():
        raise SystemExit(f"{name}={value}: there is no such file or folder")
    return Path(value) if value else None


def _original(scratch: Path) -> envs_webshop.Original | None:
    """WebShop's original, if all of it is given."""
    checkout, python = _given("WEBSHOP_ORIGINAL"), _given("WEBSHOP_PYTHON")
    if checkout is None or python is None:
        return None
    return envs_webshop.Original(checkout, python, scratch / "index")


if __name__ == "__main__":
    main()
