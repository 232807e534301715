"""``make bench-report``: how long the report of many trajectories takes to write and to use.

Prints one JSON object as its last line and writes it to ``docs/benchmarks/report.json``. The
trajectories are those of a run, again and again under new ids until there are as many as wanted.
Times in the browser are its own, in milliseconds from the beginning of the navigation: to the first
list (``first_index_ms``) and to the whole one; a filter is timed from its change to the list being
drawn (median of 20), a trajectory from the click to its turns being shown (median of 20, each in a
file that was not loaded before). Needs chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heading import committed, heading, publish
from measure import rounded

from step_ray import store
from step_ray.report.page import build_report
from step_ray.trajectory import content_hash

_ROOT = Path(__file__).parents[2]
_ROUNDS = 20
_CHANGE = """
    const select = document.querySelector("select[name=type]");
    const began = performance.now();
    select.value = select.options[1 + (arguments[0] % (select.options.length - 1))].value;
    select.dispatchEvent(new Event("change"));
    document.querySelector(".rows").getBoundingClientRect();
    return performance.now() - began;"""
_WORDS = """
    const field = document.querySelector("input[type=search]");
    const began = performance.now();
    field.value = arguments[0];
    field.dispatchEvent(new Event("input"));
    document.querySelector(".rows").getBoundingClientRect();
    return performance.now() - began;"""
_OPEN = """
    const done = arguments[1];
    const row = stepRay.meta.starts[arguments[0]];
    const detail = document.querySelector(".detail");
    stepRay.list.current = row;
    location.hash = `#trajectories?id=${stepRay.columns.id[row]}`;
    const began = performance.now();
    const look = () => detail.dataset.shown === stepRay.columns.id[row]
      ? done(performance.now() - began) : setTimeout(look, 0);
    look();"""


def copies(run: Path, count: int) -> Iterator[dict[str, Any]]:
    """Rows of all trajectories of a run, repeated under new ids."""
    folders = [path.parent for path in sorted(run.glob("*/manifest.json"))]
    rows = [row for folder in folders for row in store.read_rows(folder)]
    for number, row in enumerate(itertools.islice(itertools.cycle(rows), count)):
        spec = {**json.loads(row["spec"] or "{}"), "copy": number}
        yield {**row, "id": content_hash(spec), "spec": json.dumps(spec)}


def measure(run: Path, count: int) -> dict[str, Any]:
    """All figures of a page with ``count`` trajectories."""
    sys.path.append(str(_ROOT / "tests"))
    from report_browser import Explorer, start

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        store.publish(folder / "reflected", list(copies(run, count)))
        (folder / "config.json").write_text('{"name": "many"}')
        began = time.perf_counter()
        page = build_report(folder, limit=count, token_views=0)
        seconds = time.perf_counter() - began
        page_kb = page.stat().st_size / 1e3
        sizes = {
            kind: sum(one.stat().st_size for one in page.parent.glob(f"data-*/{kind}-*.js")) / 1e6
            for kind in ("index", "rows")
        }
        driver = start()
        try:
            explorer = Explorer(driver)
            explorer.open(page, "#trajectories")
            marks = {
                name: explorer.js(f"performance.getEntriesByName('{name}')[0].startTime")
                for name in ("step-ray-index", "step-ray-index-whole")
            }
            filters = [driver.execute_script(_CHANGE, number) for number in range(_ROUNDS)]
            words = [
                driver.execute_script(_WORDS, text)
                for text in itertools.islice(itertools.cycle(["put", "desk", "lamp", ""]), _ROUNDS)
            ]
            driver.execute_script("stepRay.filters.clear()")
            files = explorer.js("stepRay.meta.starts.length")
            chosen = [1 + number * (files - 2) // _ROUNDS for number in range(_ROUNDS)]
            opened = [driver.execute_async_script(_OPEN, number) for number in sorted(set(chosen))]
            heap = explorer.js("performance.memory.usedJSHeapSize / 1e6")
            version = driver.capabilities["browserVersion"]
        finally:
            driver.quit()
    return {
        "trajectories": count,
        "write_seconds": rounded(seconds),
        "page_kb": rounded(page_kb),
        "index_mb": rounded(sizes["index"]),
        "rows_mb": rounded(sizes["rows"]),
        "first_index_ms": rounded(marks["step-ray-index"]),
        "whole_index_ms": rounded(marks["step-ray-index-whole"]),
        "filter_ms": rounded(statistics.median(filters)),
        "find_ms": rounded(statistics.median(words)),
        "open_ms": rounded(statistics.median(opened)),
        "heap_mb": rounded(heap),
        "chromium": version,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"), help="a finished run")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=committed("report"))
    arguments = parser.parse_args()
    result = heading("report")
    small = measure(arguments.run, arguments.count // 10)
    large = measure(arguments.run, arguments.count)
    timed = ("first_index_ms", "filter_ms", "open_ms")
    result |= {
        "large": large,
        "small": small,
        "ratio": {name: rounded(large[name] / small[name]) for name in timed},
    }
    publish(result, arguments.out)


if __name__ == "__main__":
    main()
