"""The trajectories of a page as files next to it, each loaded when it is needed.

A page opened from disk may not read files, but it may load scripts: so every file is one call,
``stepRay.put(kind, number, value)``, with JSON in it. ``index-N.js`` are columns of what filters
and sorts, ``rows-N.js`` whole trajectories, ``tokens-N.js`` the tokens of one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from step_ray.report.groups import TRAINED, Choice
from step_ray.report.rows import CODED, capped, detail, entry
from step_ray.report.tokens import TokenView

INDEX_ROWS = 2_500  # entries in one index file: some 500 KB
ROWS_BYTES = 250_000  # of trajectories in one file, about


def embeddable(value: Any) -> str:
    """JSON that no HTML parser can take for markup and no old script parser for a line's end."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # These characters occur in JSON only within strings, where an escape means the same.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # JSON files can name half a surrogate pair, which no UTF-8 file can hold.
    return text.encode("utf-8", "replace").decode("utf-8")


def write(
    folder: Path, choice: Choice, weights: Mapping[str, float], view: TokenView | None
) -> dict[str, Any]:
    """Writes all files into ``folder``; returns what the page has to know of them.

    ``weights`` is the loss weight of each verdict.
    """
    files = _Files(folder)
    groups = [group.key for group in choice.groups]
    names: dict[str, dict[str, int]] = {name: {} for name in (*CODED, "kinds")}
    names["group"] = {key: number for number, key in enumerate(groups)}
    for group, trajectory, reason in choice.rows():
        line = {**entry(trajectory, reason), "group": group.key}
        for name in CODED:
            line[name] = names[name].setdefault(line[name], len(names[name]))
        line["kinds"] = [names["kinds"].setdefault(k, len(names["kinds"])) for k in line["kinds"]]
        trained = group.kind in TRAINED
        tokens = view.tokens(group.key, trajectory) if view is not None and trained else None
        line["tokens"] = -1 if tokens is None else files.put("tokens", tokens)
        files.add(
            line, detail(trajectory, weights if trained else {}), capped(trajectory.instruction)
        )
    files.close()
    return {
        "groups": [
            {"key": g.key, "label": g.label, "kind": g.kind, "total": g.total, "shown": g.chosen}
            for g in choice.groups
        ],
        "names": {name: list(numbers) for name, numbers in names.items() if name != "group"},
        "total": sum(group.chosen for group in choice.groups),
        "index": files.numbers["index"],
        "starts": files.starts,
    }


class _Files:
    """Collects entries and trajectories, and writes a file whenever there is enough for one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.numbers = {"index": 0, "rows": 0, "tokens": 0}
        self.starts: list[int] = []  # number of the first trajectory in each file of them
        self._total = 0
        self._lines: list[dict[str, Any]] = []
        self._rows: list[str] = []
        self._instructions: dict[str, int] = {}  # mostly one for all

    def put(self, kind: str, value: Any) -> int:
        """Writes one file; returns its number."""
        return self._write(kind, embeddable(value))

    def add(self, line: dict[str, Any], row: dict[str, Any], instruction: str) -> None:
        if not self._rows:
            self.starts.append(self._total)
        number = self._instructions.setdefault(instruction, len(self._instructions))
        self._rows.append(embeddable({**row, "instruction": number}))
        self._lines.append(line)
        self._total += 1
        if sum(map(len, self._rows)) >= ROWS_BYTES:
            self._end_rows()
        if len(self._lines) == INDEX_ROWS:
            self._end_index()

    def close(self) -> None:
        self._end_rows()
        self._end_index()

    def _end_rows(self) -> None:
        if self._rows:
            instructions = embeddable(list(self._instructions))
            rows = ",\n".join(self._rows)
            self._write("rows", f'{{"instructions":{instructions},"rows":[\n{rows}]}}')
            self._rows, self._instructions = [], {}

    def _end_index(self) -> None:
        if self._lines:
            columns = {name: [line[name] for line in self._lines] for name in self._lines[0]}
            self.put("index", columns)
            self._lines = []

    def _write(self, kind: str, text: str) -> int:
        number = self.numbers[kind]
        self.numbers[kind] += 1
        path = self._folder / f"{kind}-{number}.js"
        path.write_text(f'stepRay.put("{kind}",{number},{text});\n', encoding="utf-8", newline="")
        return number
