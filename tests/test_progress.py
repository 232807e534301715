"""Progress: what a person reads, at a terminal and in a log."""

from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console

from step_ray.progress import Progress, compact, duration, percent

RESULTS = {
    "students": [
        {
            "student": student,
            "split": split,
            "train_trajectories": trained,
            "n": 140,
            "success": {"value": value, "low": value - 0.05, "high": value + 0.05},
            "average_reward": {"value": value, "low": value - 0.05, "high": value + 0.05},
            "invalid_action_rate": 0.123,
            "recovery_rate": 0.4,
        }
        for student, trained, value in (("base", 60, 0.3), ("step", 110, 0.625))
        for split in ("valid_seen", "valid_unseen")
    ],
    "synthesis": {"episodes": 300, "errors": 512, "recovered": 431, "kept": 190},
    "seconds": {
        "synthesis": {"total": 133.0, "env": 20.0, "student": 900.0},
        "evaluate": {"total": 7},
    },
}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def logged(**options):
    out, clock = io.StringIO(), Clock()
    return Progress(Console(file=out, width=120), clock=clock, **options), clock, out


def terminal(width=100, **options):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, _environ={"TERM": "xterm"})
    return Progress(console, **options), out


def fail(progress, error):
    with progress.stage("golden", total=3, unit="games") as bar:
        bar.advance()
        raise error


def seen(out):
    """What is on the screen's paper trail, without control codes."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def test_a_log_gets_plain_lines_now_and_then():
    progress, clock, out = logged()
    assert progress.plain
    with progress.stage("synthesis", total=300, unit="episodes") as bar:
        for _ in range(100):
            clock.now += 0.5
            bar.advance(2, success=1, errors=3, recovered=2, **{"dropped too_many_errors": 1})
    lines = out.getvalue().splitlines()
    assert lines[0] == "synthesis: begins, 300 episodes"
    assert lines[1] == (
        "synthesis: 20/300 episodes, 4/s, 1 min 10 s left · success 10 · errors caught 30 · "
        "recovered 20 · dropped too_many_errors 10"
    )
    assert lines[-1] == (
        "synthesis: done 200/300 episodes in 50 s · 4/s · success 100 · errors caught 300 · "
        "recovered 200 · dropped too_many_errors 100"
    )
    assert len(lines) == 1 + 10 + 1
    assert "\x1b" not in out.getvalue()
    assert "\r" not in out.getvalue()


def test_the_same_reports_give_the_same_text():
    texts = []
    for _ in range(2):
        progress, clock, out = logged()
        with progress.stage("train", total=10, unit="steps") as bar:
            for step in range(10):
                clock.now += 3
                bar.set(completed=step + 1, loss=2.0 / (step + 1), **{"tokens/s": 9000.0})
        progress.table(RESULTS)
        texts.append(out.getvalue())
    assert texts[0] == texts[1]
    assert "loss 0.2 · tokens/s 9,000" in texts[0]


def test_absolute_values_and_counts():
    progress, _, _ = logged()
    with progress.stage("x", total=5) as bar:
        bar.advance(1, errors=2)
        bar.advance(1, errors=2)
        bar.set(completed=4, loss=1.23)
        assert bar.counts == {"errors": 4, "loss": 1.23}
        bar.counts["errors"] = 0  # a copy
        bar.set(errors=1, total=9)
        assert bar.counts["errors"] == 1
        assert (bar.completed, bar.total) == (4, 9)


def test_what_was_done_before_is_not_counted_as_speed():
    progress, clock, out = logged()
    with progress.stage("synthesis", total=100, unit="episodes") as bar:
        clock.now += 1
        bar.set(completed=80)
        clock.now += 10
        bar.set(completed=90)
    assert "90/100 episodes, 1/s, 10 s left" in out.getvalue()
    assert "done 90/100 episodes in 11 s · 1/s" in out.getvalue()


def test_rate_is_that_of_the_last_minute():
    progress, clock, out = logged()
    with progress.stage("x", total=10_000) as bar:
        for _ in range(1000):
            clock.now += 1
            bar.advance(8)
        for _ in range(100):
            clock.now += 1
            bar.advance(1)
    assert ", 1/s," in out.getvalue().splitlines()[-2]


def test_slow_units_are_said_the_other_way_round():
    progress, clock, out = logged()
    with progress.stage("train", total=4, unit="steps") as bar:
        for _ in range(2):
            clock.now += 90
            bar.advance()
    assert "2/4 steps, 1 min 30 s each, 3 min 00 s left" in out.getvalue()


@pytest.mark.parametrize(
    ("error", "said"),
    [(ValueError("no such game\nsecond line"), "failed"), (KeyboardInterrupt(), "interrupted")],
)
def test_an_exception_is_said_and_passed_on(error, said):
    for progress, out in (logged()[::2], terminal()):
        with pytest.raises(type(error)):
            fail(progress, error)
        line = next(line for line in seen(out).splitlines() if said in line)
        assert "golden" in line
        assert "1/3 games" in line
        assert "second line" not in line
        assert ("ValueError: no such game" in line) == (said == "failed")


def test_notes_and_skipped_stages():
    progress, _, out = logged()
    progress.skipped("golden", "done before, same fingerprint")
    progress.note("Ray started")
    assert out.getvalue().splitlines() == [
        "golden: skipped (done before, same fingerprint)",
        "Ray started",
    ]


def test_nobody_can_steer_the_terminal():
    for progress, out in (logged()[::2], terminal()):
        progress.note("a\x1b[2Jb [bold]c[/bold] \u202e\x9b31m\r\nd")
        with progress.stage("s\x1b]0;t\x07", total=1) as bar:
            bar.advance(**{"dropped \x1b[31m": 1})
        assert "\x1b[2J" not in out.getvalue()
        assert "\x1b]0" not in out.getvalue()
        assert "\x9b" not in out.getvalue()
        assert "a[2Jb [bold]c[/bold] 31m d" in seen(out)


def test_text_that_the_log_cannot_encode():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    progress = Progress(Console(file=out, width=80), clock=Clock())
    progress.note("naïve 🦙 \ud800")
    with progress.stage("x") as bar:
        bar.advance(1, a=1, b=2)
    progress.table(RESULTS)
    assert b"na?ve ? ?" in raw.getvalue()
    assert b"a 1 | b 2" in raw.getvalue()


def test_a_terminal_shows_bars_and_keeps_one_line_a_stage():
    progress, out = terminal()
    assert not progress.plain
    with progress.stage("synthesis", total=300, unit="episodes") as bar:
        bar.set(completed=120, success=80, errors=200)
        with progress.stage("other") as inner:
            inner.advance()
            progress._live.refresh()
        progress.note("a note")
    text = seen(out)
    assert "━" in text
    assert "120/300 episodes" in text
    assert "success 80 · errors caught 200" in text
    assert "✓ synthesis" in text
    assert "a note" in text
    assert progress._live is None
    assert "\x1b[?25h" in out.getvalue()  # the cursor is shown again


@pytest.mark.parametrize("width", [30, 60, 200])
def test_any_width(width):
    progress, out = terminal(width)
    with progress.stage("synthesis", total=300, unit="episodes") as bar:
        bar.set(completed=120, success=80, errors=200)
        progress._live.refresh()
    progress.table(RESULTS)
    assert "synthesis" in seen(out)


def test_table():
    progress, _, out = logged()
    progress.table(RESULTS)
    text = out.getvalue()
    row = next(line for line in text.splitlines() if "step" in line and "unseen" in line)
    for cell in ("110", "140", "62.5 %", "57.5..67.5", "0.625", "12.3 %", "40.0 %"):
        assert cell in row
    assert "errors caught 512 · recovered 431 · kept for training 190" in text
    assert "2 min 13 s" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("results", [{}, {"students": [{}], "seconds": {"a": {}}, "synthesis": {}}])
def test_table_of_little(results):
    progress, _, out = logged()
    progress.table(results)
    assert "Traceback" not in out.getvalue()


@pytest.mark.parametrize("make", [lambda: logged()[0], lambda: terminal()[0]])
def test_threads(make):
    progress = make()

    def work(name):
        with progress.stage(name, total=200) as mine:
            for _ in range(200):
                mine.advance(1, a=1)
                shared.advance(1, a=1)
            assert mine.counts == {"a": 200}
            progress.note(name)

    with progress.stage("shared", total=1600) as shared:
        threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        assert shared.completed == 1600
        assert shared.counts == {"a": 1600}


def test_words():
    assert [duration(s) for s in (-1, 0.04, 9.94, 9.96, 59.6, 133, 3840, 200_000)] == [
        "0.0 s", "0.0 s", "9.9 s", "10 s", "1 min 00 s", "2 min 13 s", "1 h 04 min", "2 d 7 h",
    ]  # fmt: skip
    assert [compact(v) for v in (512, 12345, 1.234, 0.5, 9000.0, 2e-5, 0.0, 123.45, -2.0)] == [
        "512", "12,345", "1.23", "0.5", "9,000", "2.0e-05", "0", "123.5", "-2",
    ]  # fmt: skip
    assert compact(float("nan")) == "nan"
    assert percent(0.1234) == "12.3 %"
    assert percent(None) == "-"
