"""Progress a person can watch: live bars at a terminal, sparse plain lines in a log.

Plain text holds no control codes and is a function of what was reported and of the clock alone.
Names, notes and counts may come from anywhere, so what would steer a terminal is taken out.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_EVERY = 5.0  # seconds between two lines of one stage in a log
_WINDOW = 60.0  # the shown rate is that of the last minute
_LOG_WIDTH = 120
_LABELS = {"errors": "errors caught"}
_FIRST = ("success", "errors", "errors made", "recovered")  # the order a person reads them in
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``4.2 s``, ``2 min 13 s``, ``1 h 04 min``, ``2 d 3 h``."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def compact(value: float) -> str:
    """A number in at most about six characters: ``512``, ``1.23``, ``9,000``, ``2.0e-05``."""
    if isinstance(value, int):
        return f"{value:,}"
    if value != value or abs(value) == float("inf"):
        return str(value)
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def label(name: str) -> str:
    """How a running count is called in front of a person."""
    return _LABELS.get(name, name)


class StageProgress:
    """One stage's bar and running counts; made by :meth:`Progress.stage`. Thread-safe."""

    def __init__(self, owner: Progress, name: str, total: int | None, unit: str) -> None:
        self.name = name
        self.unit = unit
        self.total = total
        self.completed = 0
        self._owner = owner
        self._counts: dict[str, float] = {}
        self._began = owner._clock()
        self._base: tuple[float, int] | None = None  # moment and value the rate counts from
        self._recent: deque[tuple[float, int]] = deque([(self._began, 0)])
        self._last_line = self._began

    @property
    def counts(self) -> dict[str, float]:
        """A copy of the running counts."""
        with self._owner._lock:
            return dict(self._counts)

    def advance(self, n: int = 1, **counts: float) -> None:
        """``n`` more are done; adds to the running counts."""
        with self._owner._lock:
            if self._base is None:
                self._base = (self._began, 0)
            for name, value in counts.items():
                self._counts[name] = self._counts.get(name, 0) + value
            self._update(self.completed + n)
        self._owner._updated(self)

    def set(self, completed: int | None = None, total: int | None = None, **values: float) -> None:
        """Replaces how many are done, of how many, and the counts that are named."""
        with self._owner._lock:
            if total is not None:
                self.total = total
            if completed is not None and self._base is None:
                # What an earlier attempt had done says nothing about the speed of this one.
                self._base = (self._owner._clock(), completed)
                self._recent = deque([self._base])
            self._counts.update(values)
            self._update(self.completed if completed is None else completed)
        self._owner._updated(self)

    def note(self, text: str) -> None:
        """A line above the bars."""
        self._owner.note(f"{self.name}: {text}")

    def _update(self, completed: int) -> None:
        self.completed = completed
        now = self._owner._clock()
        if now - self._recent[-1][0] >= 0.5:
            self._recent.append((now, completed))
        while len(self._recent) > 2 and now - self._recent[1][0] > _WINDOW:
            self._recent.popleft()

    def _rate(self) -> float | None:
        """Units per second lately; None while nothing can be said."""
        since, before = self._recent[0]
        elapsed = self._owner._clock() - since
        done = self.completed - before
        return done / elapsed if done > 0 and elapsed > 0 else None

    def _average(self) -> float | None:
        since, before = self._base or (self._began, 0)
        elapsed = self._owner._clock() - since
        done = self.completed - before
        return done / elapsed if done > 0 and elapsed > 0 else None

    def _amount(self) -> str:
        if self.total is None and not self.completed:
            return ""
        of = f"/{self.total:,}" if self.total is not None else ""
        return f"{self.completed:,}{of} {self.unit}".rstrip()

    def _left(self, rate: float | None) -> str:
        if self.total is None or not rate or self.completed >= self.total:
            return ""
        return f"{duration((self.total - self.completed) / rate)} left"

    def _counted(self) -> list[str]:
        names = [name for name in _FIRST if name in self._counts]
        names += [n for n in self._counts if n not in _FIRST and not n.startswith("dropped")]
        names += sorted(n for n in self._counts if n.startswith("dropped"))
        return [f"{label(name)} {compact(self._counts[name])}" for name in names]


class Progress:
    """What a recipe reports to. ``plain`` None: plain unless the console is a terminal.

    ``clock`` is for tests.
    """

    def __init__(
        self,
        console: Console | None = None,
        plain: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if console is None:
            console = Console()
            if not console.is_terminal:
                console = Console(width=_LOG_WIDTH)  # the same on every machine
        if plain is None:
            plain = not console.is_terminal or console.is_dumb_terminal
        self.console = console
        self.plain = plain
        self._clock = clock
        # The refreshing thread takes _lock while it holds a lock of rich's, so nothing may be
        # printed under _lock. _starting is never taken by that thread.
        self._lock = threading.RLock()
        self._starting = threading.Lock()
        self._active: list[StageProgress] = []
        self._live: Live | None = None
        unicode = console.encoding.lower().startswith("utf")
        self._dot = " · " if unicode else " | "
        self._marks = ("✓", "✗", "–") if unicode else ("+", "x", "-")

    @contextlib.contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[StageProgress]:
        """Shows a stage while the block runs, and one line of what came out at its end."""
        bar = StageProgress(self, _clean(name), total, _clean(unit))
        self._begin(bar)
        try:
            yield bar
        except BaseException as error:
            verb = "failed" if isinstance(error, Exception) else "interrupted"
            first = (str(error).strip().splitlines() or [""])[0]
            cause = f"{type(error).__name__}: {first}" if first else type(error).__name__
            self._end(bar, 1, "red", verb, cause)
            raise
        self._end(bar, 0, "green", "done")

    def note(self, text: str) -> None:
        """A line above the bars."""
        self._print(Text(_clean(text)))

    def skipped(self, name: str, reason: str) -> None:
        """Says that a stage need not run."""
        self._line(2, "dim", name, "skipped", f"({reason})")

    def table(self, results: Mapping[str, Any]) -> None:
        """Prints ``results.json``: every student's figures, and where the time went."""
        for title, part in (
            ("Students", self._students(results)),
            ("Synthesis", self._synthesis(results)),
            ("Time (phases add up over episodes that run side by side)", self._seconds(results)),
        ):
            if part is not None:
                self._print(Text(f"\n{title}", style="" if self.plain else "bold"))
                self.console.print(part, highlight=False)

    # -- lines ------------------------------------------------------------------------------------

    def _begin(self, bar: StageProgress) -> None:
        if self.plain:
            amount = "" if bar.total is None else f", {bar.total:,} {bar.unit}".rstrip()
            self._print(Text(f"{bar.name}: begins{amount}"))
        with self._lock:
            self._active.append(bar)
        if self.plain:
            return
        with self._starting:
            if self._live is None:
                self._live = Live(
                    console=self.console,
                    get_renderable=self._render,
                    refresh_per_second=4,
                    transient=True,
                )
                self._live.start()

    def _end(self, bar: StageProgress, mark: int, style: str, verb: str, cause: str = "") -> None:
        with self._lock:
            self._active.remove(bar)
            facts = [f"{bar._amount()} in {duration(self._clock() - bar._began)}".strip()]
            rate = bar._average()
            facts += [_speed(rate)] if rate else []
            facts += bar._counted()
            facts += [cause] if cause else []
        self._line(mark, style, bar.name, verb, self._dot.join(facts))
        with self._starting:
            if self._live is not None and not self._active:
                self._live.stop()
                self._live = None

    def _updated(self, bar: StageProgress) -> None:
        if not self.plain:
            return
        with self._lock:
            now = self._clock()
            if bar not in self._active or now - bar._last_line < PLAIN_EVERY:
                return
            bar._last_line = now
            rate = bar._rate()
            parts = [bar._amount(), _speed(rate) if rate else "", bar._left(rate)]
            facts = [", ".join(part for part in parts if part), *bar._counted()]
            text = f"{bar.name}: {self._dot.join(fact for fact in facts if fact)}"
        self._print(Text(_clean(text)))

    def _line(self, mark: int, style: str, name: str, verb: str, rest: str) -> None:
        if self.plain:
            self._print(Text(_clean(f"{name}: {verb} {rest}")))
            return
        text = Text.assemble((f"{self._marks[mark]} ", style), (f"{_clean(name):<12} ", "bold"))
        if verb != "done":
            text.append(f"{verb} ", style)
        self._print(text.append(_clean(rest)))

    def _print(self, text: Text) -> None:
        encoding = self.console.encoding
        text.plain = text.plain.encode(encoding, "replace").decode(encoding)
        self.console.print(text, highlight=False, soft_wrap=self.plain)

    # -- the live view ----------------------------------------------------------------------------

    def _render(self) -> Group:
        with self._lock:
            return Group(*(part for bar in self._active for part in self._bar(bar)))

    def _bar(self, bar: StageProgress) -> Iterator[Table | Padding]:
        width = self.console.width
        rate = bar._rate()
        line = Table.grid(padding=(0, 2, 0, 0))
        cells: list[Any] = [
            Text(f"{bar.name:<12}", style="bold", no_wrap=True),
            ProgressBar(
                total=bar.total,
                completed=bar.completed,
                width=max(8, min(36, width // 4)),
                pulse=bar.total is None,
            ),
            Text(bar._amount(), no_wrap=True),
        ]
        if width >= 60:
            cells.append(Text(_speed(rate) if rate else "", style="cyan", no_wrap=True))
        left = bar._left(rate) or duration(self._clock() - bar._began)
        cells.append(Text(left, style="dim", no_wrap=True))
        line.add_row(*cells)
        yield line
        counted = bar._counted()
        if counted:
            yield Padding(Text(_clean(self._dot.join(counted)), style="dim"), (0, 0, 0, 13))

    # -- the end of a run -------------------------------------------------------------------------

    def _grid(self, texts: Sequence[str], numbers: Sequence[str]) -> Table:
        table = Table(
            header_style="" if self.plain else "dim",
            border_style="" if self.plain else "dim",
            box=SIMPLE_HEAD,
            show_edge=False,
            padding=(0, 1, 0, 0),
        )
        for name in texts:
            table.add_column(name, overflow="fold")
        for name in numbers:
            table.add_column(name, justify="right", overflow="fold")
        return table

    def _row(self, table: Table, *cells: str) -> None:
        encoding = self.console.encoding
        table.add_row(
            *(
                Text(
                    "\n".join(map(_clean, cell.split("\n")))
                    .encode(encoding, "replace")
                    .decode(encoding)
                )
                for cell in cells
            )
        )

    def _students(self, results: Mapping[str, Any]) -> Table | None:
        rows = results.get("students") or []
        if not rows:
            return None
        # On a narrow terminal the intervals go below their figures.
        between = " " if self.console.width >= 100 else "\n"
        numbers = ("trained", "n", "success", "reward", "invalid", "recovery")
        table = self._grid(("student", "split"), numbers)
        for row in rows:
            trained = row.get("train_trajectories")
            self._row(
                table,
                str(row.get("student", "?")),
                str(row.get("split", "?")).removeprefix("valid_"),
                "-" if trained is None else f"{trained:,}",
                f"{row.get('n', 0):,}",
                _with_interval(row.get("success"), 100.0, 1, between),
                _with_interval(row.get("average_reward"), 1.0, 3, between),
                percent(row.get("invalid_action_rate")),
                percent(row.get("recovery_rate")),
            )
        return table

    def _synthesis(self, results: Mapping[str, Any]) -> Text | None:
        figures = results.get("synthesis") or {}
        names = {"episodes": "episodes", "errors": "errors caught", "recovered": "recovered"}
        names["kept"] = "kept for training"
        facts = [f"{text} {figures[name]:,}" for name, text in names.items() if name in figures]
        return Text(self._dot.join(facts)) if facts else None

    def _seconds(self, results: Mapping[str, Any]) -> Table | None:
        seconds = results.get("seconds") or {}
        if not seconds:
            return None
        phases = list(dict.fromkeys(p for stage in seconds.values() for p in stage if p != "total"))
        table = self._grid(("stage",), ("total", *phases))
        for stage, parts in seconds.items():
            cells = (parts.get(phase) for phase in ("total", *phases))
            self._row(table, stage, *("" if cell is None else duration(cell) for cell in cells))
        return table


def percent(share: float | None, digits: int = 1) -> str:
    """A share as per cent; ``-`` for None."""
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def _with_interval(figure: Any, scale: float, digits: int, between: str) -> str:
    """A figure of ``results.json`` and its 95 % interval."""
    if not isinstance(figure, Mapping):
        return "-"
    unit = " %" if scale == 100.0 else ""
    value, low, high = (f"{scale * figure[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value}{unit}{between}{low}..{high}"


def _speed(rate: float) -> str:
    return f"{compact(float(f'{rate:.3g}'))}/s" if rate >= 0.1 else f"{duration(1 / rate)} each"


def _clean(text: str) -> str:
    """Without control codes and without what reverses the reading direction; one line."""
    return _CONTROL.sub("", text.replace("\n", " ").replace("\t", " "))
