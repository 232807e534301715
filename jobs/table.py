"""Puts several runs of one config (other seeds) into one Markdown table:

python jobs/table.py runs/seed0 runs/seed1 runs/seed2

For each student and split: success per run, their mean, and the mean difference to the base agent
of the same run with a 95 % bootstrap interval over (run, task) pairs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from step_ray import store
from step_ray.evaluation.statistics import bootstrap_mean

Wins = dict[tuple[str, str], dict[str, float]]  # (student, split) -> task -> won


def wins_of(run: Path) -> Wins:
    """Success of every evaluated episode of a run."""
    results = json.loads((run / "results.json").read_text("utf-8"))
    stage = json.loads((run / "evaluation" / "stage.json").read_text("utf-8"))
    students = stage["identity"]["inputs"]["students"]  # two may be the same model
    wins: Wins = {(row["student"], row["split"]): {} for row in results["students"]}
    for trajectory in store.read(run / "evaluation", kept_only=False):
        for name, fingerprint in students.items():
            if fingerprint == trajectory.provenance.student:
                wins[name, trajectory.split][trajectory.task] = float(trajectory.success)
    return wins


def table(runs: list[Path]) -> str:
    """The Markdown table."""
    found = [wins_of(run) for run in runs]
    lines = [
        "| student | split | n | success, by run | mean | minus base, 95 % interval |",
        "|---|---|---|---|---|---|",
    ]
    for student, split in found[0]:
        each = [wins[student, split] for wins in found]
        rates = [sum(won.values()) / len(won) for won in each]
        gaps = [
            won - base[task]
            for wins, base in ((wins[student, split], wins["base", split]) for wins in found)
            for task, won in wins.items()
        ]
        gap = bootstrap_mean(gaps)
        lines.append(
            f"| {student} | {split} | {sum(map(len, each))} | "
            f"{' '.join(f'{100 * rate:.0f} %' for rate in rates)} | "
            f"**{100 * sum(rates) / len(rates):.1f} %** | "
            + (
                "|"
                if student == "base"
                else f"{100 * gap.value:+.1f} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f}) |"
            )
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path)
    print(table(parser.parse_args().runs))
