"""The trajectories a page shows: few enough to read, of every kind there is, always the same ones.

A stage may have made a hundred thousand episodes. Two passes keep memory small: the first reads
what selects (outcome, reason, type), the second the chosen rows alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, get_args

from step_ray import schema, store
from step_ray.lineage import STAGE
from step_ray.manifest import MANIFEST
from step_ray.quarantine import QUARANTINE
from step_ray.trajectory import Review, Trajectory, Turn

Kind = Literal["golden", "kept", "dropped", "evaluation"]

PER_GROUP = 40
MAX_JSON = 2_200_000  # characters of embedded data, so that the whole page stays under 3 MB
# (characters shown of one text, trajectories of each group that are worth so much text)
_TEXT_CAPS = ((6000, 12), (1500, 6), (300, 0))
_GOAL = re.compile(
    r"\b(?:your task is to|task description|instruction|goal):\s*(.+)", re.IGNORECASE
)
_LIGHT = ("id", "keep", "drop_reason", "outcome", "split", "task_type")
_NOT_STAGES = {"stale", "report"}
_WORKING = {"raw", "specs", "checkpoint", QUARANTINE}


_Light = tuple[Path, dict[str, Any]]  # folder and the few columns that select


@dataclass(slots=True)
class Group:
    """What one entry of the browser's stage list holds; ``chosen`` is in order of preference, so
    that any beginning of it is a fair sample too."""

    key: str
    label: str
    kind: Kind
    total: int = 0
    chosen: list[tuple[Trajectory, str]] = field(default_factory=list)


def groups(run: Path, problems: list[str]) -> list[Group]:
    """All browsable groups of a run; what cannot be read becomes a line of ``problems``."""
    found: list[Group] = []
    for datasets in _datasets(run):
        try:
            found += _read(datasets)
        except (store.StoreError, schema.SchemaError) as error:
            problems.append(str(error))
    return sorted(found, key=lambda group: get_args(Kind).index(group.kind))


def pack(groups: Sequence[Group], weights: Mapping[str, float]) -> str:
    """JSON of as many trajectories as fit, to be put into a ``script`` element.

    ``weights`` is the loss weight of each verdict.
    """
    text = ""
    for cap, enough in _TEXT_CAPS:
        count = _fitting(groups, weights, cap)
        text = embeddable(_packed(groups, weights, count, cap))
        if count >= enough:
            break
    return text


def embeddable(value: Any) -> str:
    """JSON that no HTML parser can take for markup and no old script parser for a line's end."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # These characters occur in JSON only within strings, where an escape means the same.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


# -- choosing --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Dataset:
    """A published folder and how its rows are called in the page."""

    folder: Path
    stage: str
    part: str  # the sub-folder of the stage, as a student's name
    students: Mapping[str, str]  # fingerprint -> name, as the evaluation's record has them

    @property
    def evaluation(self) -> bool:
        return self.stage.startswith("eval")

    def rows(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        for row in store.read_rows(self.folder, columns):
            if (
                self.evaluation
            ):  # whether a roll-out would have been good training data is no matter
                row["drop_reason"] = ""
            yield row

    def group(self, row: Mapping[str, Any]) -> Group:
        """An empty group of the kind a row belongs to."""
        if self.evaluation:
            fingerprint = str(row["provenance"]["student"])
            name = self.part or self.students.get(fingerprint) or fingerprint[:12]
            label = f"Evaluation: {name}" if name else "Evaluation"
            return Group(f"{self.stage}/{name}", label, "evaluation")
        label = self.stage.replace("_", " ").capitalize()
        if not row["keep"]:
            return Group(f"{self.stage}/dropped", f"{label}: dropped", "dropped")
        if self.stage.startswith("golden"):
            return Group(self.stage, label, "golden")
        return Group(f"{self.stage}/kept", f"{label}: kept", "kept")


def _datasets(run: Path) -> Iterator[list[_Dataset]]:
    """The published datasets of each stage that has any."""
    for stage in sorted(path for path in run.iterdir() if path.is_dir()):
        if stage.name in _NOT_STAGES or stage.name.startswith("."):
            continue
        students = _students(stage)
        found = []
        for manifest in sorted(stage.rglob(MANIFEST)):
            inside = manifest.parent.relative_to(stage).parts
            if _WORKING.isdisjoint(inside) and _is_dataset(manifest):
                part = inside[0] if inside else ""
                found.append(_Dataset(manifest.parent, stage.name, part, students))
        if found:
            yield found


def _students(stage: Path) -> dict[str, str]:
    try:
        record = json.loads((stage / STAGE).read_text(encoding="utf-8"))
        named = record["identity"]["inputs"]["students"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    names: dict[str, str] = {}
    for name, fingerprint in named.items() if isinstance(named, dict) else ():
        # Two students that are the same model share their roll-outs.
        known = names.get(str(fingerprint))
        names[str(fingerprint)] = f"{known}, {name}" if known else str(name)
    return names


def _is_dataset(manifest: Path) -> bool:
    try:
        value = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True  # reading it will say what is wrong
    return isinstance(value, dict) and "shards" in value


def _read(datasets: Sequence[_Dataset]) -> list[Group]:
    """All groups of one stage."""
    found: dict[str, Group] = {}
    light: dict[str, list[_Light]] = {}
    for dataset in datasets:
        for row in dataset.rows([*_LIGHT, "provenance"] if dataset.evaluation else _LIGHT):
            group = dataset.group(row)
            found.setdefault(group.key, group).total += 1
            light.setdefault(group.key, []).append((dataset.folder, row))
    position = {
        (folder, row["id"]): index
        for rows in light.values()
        for index, (folder, row) in enumerate(_spread(rows)[:PER_GROUP])
    }
    full: dict[str, list[tuple[int, Trajectory, str]]] = {}
    for dataset in datasets:
        for row in dataset.rows([*schema.TRAJECTORY_COLUMNS, "keep", "drop_reason"]):
            index = position.get((dataset.folder, row["id"]))
            if index is not None:
                entry = (index, schema.from_row(row), str(row["drop_reason"]))
                full.setdefault(dataset.group(row).key, []).append(entry)
    for key, group in found.items():
        rows = sorted(full.get(key, ()), key=lambda entry: entry[0])
        group.chosen = [(trajectory, reason) for _, trajectory, reason in rows]
    names = list(datasets[0].students.values())
    order = {f"{datasets[0].stage}/{name}": index for index, name in enumerate(names)}
    return sorted(found.values(), key=lambda group: (order.get(group.key, len(order)), group.key))


def _spread(rows: Sequence[_Light]) -> list[_Light]:
    """Rows ordered so that every beginning has of each reason, outcome and split about as
    many, and within those of each task type. Ids are hashes: their order is as good as random."""
    strata: dict[tuple[str, str, str], dict[str, list[_Light]]] = {}
    for folder, row in sorted(rows, key=lambda item: (str(item[1]["id"]), item[0])):
        stratum = (row["drop_reason"], row["outcome"], row["split"])
        strata.setdefault(stratum, {}).setdefault(row["task_type"], []).append((folder, row))
    return _in_turn(
        [_in_turn([types[name] for name in sorted(types)]) for _, types in sorted(strata.items())]
    )


def _in_turn(piles: Sequence[Sequence[_Light]]) -> list[_Light]:
    return [item for layer in zip_longest(*piles) for item in layer if item is not None]


# -- packing ---------------------------------------------------------------------------------------


def _packed(
    groups: Sequence[Group], weights: Mapping[str, float], count: int, cap: int
) -> dict[str, Any]:
    instructions: dict[str, int] = {}  # mostly one for all, so each is embedded once
    packed = []
    for group in groups:
        trained = group.kind in ("golden", "kept")
        rows = []
        for trajectory, reason in group.chosen[:count]:
            text = _capped(trajectory.instruction, cap)
            row = _trajectory(trajectory, reason, weights if trained else {}, cap)
            rows.append({**row, "instruction": instructions.setdefault(text, len(instructions))})
        packed.append(
            {
                "key": group.key,
                "label": group.label,
                "kind": group.kind,
                "total": group.total,
                "trajectories": rows,
            }
        )
    return {"instructions": list(instructions), "groups": packed}


def _fitting(groups: Sequence[Group], weights: Mapping[str, float], cap: int) -> int:
    """How many trajectories of each group fit into ``MAX_JSON``, at most ``PER_GROUP``."""
    left = MAX_JSON
    instructions: set[str] = set()
    for count in range(PER_GROUP):
        for group in groups:
            for trajectory, reason in group.chosen[count : count + 1]:
                left -= 100 + len(embeddable(_trajectory(trajectory, reason, weights, cap)))
                text = _capped(trajectory.instruction, cap)
                left -= 0 if text in instructions else len(embeddable(text))
                instructions.add(text)
        if left < 0:
            return count
    return PER_GROUP


def _trajectory(
    trajectory: Trajectory, reason: str, weights: Mapping[str, float], cap: int
) -> dict[str, Any]:
    provenance = trajectory.provenance
    facts = {
        "environment": " ".join(filter(None, (trajectory.env, provenance.env_build))),
        "student": provenance.student,
        "teacher": provenance.teacher,
        "seed": str(provenance.seed),
    }
    turns = []
    previous: Review | None = None
    for turn in trajectory.turns:
        turns.append(_turn(turn, previous, weights.get(turn.verdict, 0.0), cap))
        previous = turn.review
    return {
        "id": trajectory.id,
        "task": _capped(trajectory.task, cap),
        "goal": _goal(trajectory),
        "type": trajectory.task_type,
        "split": trajectory.split,
        "outcome": trajectory.outcome,
        "reason": reason,
        "reward": round(trajectory.reward, 4),
        "success": trajectory.success,
        "errors": trajectory.errors,
        "corrections": trajectory.corrections,
        "detail": _capped(trajectory.detail, cap),
        "first": _capped(trajectory.initial_observation, cap),
        "facts": {name: _capped(value, cap) for name, value in facts.items() if value},
        "turns": turns,
    }


def _turn(turn: Turn, previous: Review | None, weight: float, cap: int) -> dict[str, Any]:
    """Only what differs from the usual turn: most are correct, executed, valid, without reward."""
    packed: dict[str, Any] = {
        "thought": _capped(turn.thought, cap),
        "action": _capped(turn.action, cap),
        "observation": _capped(turn.observation, cap),
        "author": turn.author,
        "verdict": turn.verdict,
    }
    if weight:
        packed["weight"] = weight
    if turn.reward:
        packed["reward"] = round(turn.reward, 4)
    if not turn.executed:
        packed["executed"] = False
    if not turn.valid:
        packed["valid"] = False
    review = turn.review
    # A correction repeats the review that it answers; the error's card shows it already.
    if review is not None and review.is_error and review != previous:
        names = ("kind", "error", "reason", "reflection", "thought", "action")
        packed["review"] = {
            name: _capped(getattr(review, name), cap) for name in names if getattr(review, name)
        }
    return packed


def _goal(trajectory: Trajectory) -> str:
    """What is to be done, as environments commonly announce it; empty if they do not."""
    found = _GOAL.search(f"{trajectory.initial_observation}\n{trajectory.instruction}")
    return _capped(found.group(1).strip().rstrip("."), 140) if found else ""


def _capped(text: str, cap: int) -> str:
    if len(text) <= cap:
        return text
    return f"{text[:cap]} … [{len(text) - cap:,} more characters]"
