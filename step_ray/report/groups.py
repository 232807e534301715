"""Which trajectories a page has, and what groups of them: by stage, by kept or dropped, by student.

A stage may have made a million episodes. The first pass reads the few columns that select, the
second the chosen rows alone, one row group at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from step_ray import schema, store
from step_ray.lineage import STAGE
from step_ray.manifest import MANIFEST
from step_ray.quarantine import QUARANTINE
from step_ray.trajectory import Trajectory

Kind = Literal["golden", "kept", "dropped", "material", "evaluation"]
TRAINED: tuple[Kind, ...] = ("golden", "kept")

# Of ETO and STeCa: pairs, or parts with weights of their own, are chosen from them.
_MATERIAL = ("explored", "valued", "calibrated")
_LIGHT = ("id", "keep", "drop_reason", "outcome", "split", "task_type")
_NOT_STAGES = {"stale", "report"}
_WORKING = {"raw", "specs", "checkpoint", QUARANTINE}

_T = TypeVar("_T")
_Light = tuple[Path, dict[str, Any]]  # folder and the few columns that select


@dataclass(slots=True)
class Group:
    """What one entry of the explorer's stage list holds: ``total`` were made, ``chosen`` are shown.

    ``rows`` are in such an order that every beginning is a fair sample.
    """

    key: str
    label: str
    kind: Kind
    total: int = 0
    chosen: int = 0
    rows: list[_Light] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A published folder and how its rows are called in the page."""

    folder: Path
    stage: str
    part: str  # the sub-folder of the stage, as a student's name
    students: Mapping[str, str]  # fingerprint -> name, as the evaluation's record has them

    @property
    def evaluation(self) -> bool:
        return self.stage.startswith("eval")

    @property
    def world(self) -> str:
        """What an environment is called that nobody was trained in; "" for the run's own."""
        return self.stage.partition("_")[2] if self.evaluation else ""

    def split(self, row: Mapping[str, Any]) -> str:
        """A row's split as the results call it."""
        return f"{self.world}/{row['split']}" if self.world else str(row["split"])

    @property
    def golden(self) -> bool:
        return self.stage.startswith("golden")

    @property
    def material(self) -> bool:
        return self.stage.startswith(_MATERIAL)

    def rows(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        for row in store.read_rows(self.folder, columns):
            if self.evaluation:  # whether a roll-out would be good training data is no matter
                row["drop_reason"] = ""
            yield row

    def student(self, row: Mapping[str, Any]) -> str:
        """Who acts in a row of an evaluation: several names if they are the same model."""
        fingerprint = str(row["provenance"]["student"])
        return self.part or self.students.get(fingerprint) or fingerprint[:12]

    def group(self, row: Mapping[str, Any]) -> Group:
        """An empty group of the kind a row belongs to."""
        if self.evaluation:
            name = self.student(row)
            stage = "Evaluation" + (f" in {self.world}" if self.world else "")
            label = f"{stage}: {name}" if name else stage
            return Group(f"{self.stage}/{name}", label, "evaluation")
        label = self.stage.replace("_", " ").capitalize()
        if self.material:
            return Group(self.stage, label, "material")
        if not row["keep"]:
            return Group(f"{self.stage}/dropped", f"{label}: dropped", "dropped")
        if self.golden:
            return Group(self.stage, label, "golden")
        return Group(f"{self.stage}/kept", f"{label}: kept", "kept")


@dataclass(frozen=True, slots=True)
class Choice:
    """The groups of a run in the order of the page, and where their rows are."""

    groups: list[Group]
    datasets: list[Dataset]
    ids: Mapping[Path, frozenset[str]]  # of the chosen rows

    def rows(self) -> Iterator[tuple[Group, Trajectory, str]]:
        """(group, trajectory, drop reason) of every chosen row; at once as little as possible."""
        by_key = {group.key: group for group in self.groups}
        for dataset in self.datasets:
            wanted = self.ids.get(dataset.folder, frozenset())
            for row in dataset.rows([*schema.TRAJECTORY_COLUMNS, "keep", "drop_reason"]):
                if row["id"] in wanted:
                    group = by_key[dataset.group(row).key]
                    yield group, schema.from_row(row), str(row["drop_reason"])

    def sample(self, size: int) -> list[tuple[str, str]]:
        """(group, id) of some of what is trained on, about as many of each group and kind."""
        piles = [
            [(group.key, str(row["id"])) for _, row in group.rows[: group.chosen]]
            for group in self.groups
            if group.kind in TRAINED
        ]
        return _in_turn(piles)[:size]


def choose(run: Path, limit: int, problems: list[str]) -> Choice:
    """At most ``limit`` trajectories of a run, of every group its share.

    What cannot be read becomes a line of ``problems``.
    """
    groups: list[Group] = []
    datasets: list[Dataset] = []
    for stage in datasets_of(run):
        try:
            groups += _read(stage)
            datasets += stage
        except (store.StoreError, schema.SchemaError) as error:
            problems.append(str(error))
    groups.sort(key=lambda group: get_args(Kind).index(group.kind))
    datasets.sort(key=lambda dataset: (dataset.evaluation, not dataset.golden))
    total = sum(group.total for group in groups)
    ids: dict[Path, set[str]] = {}
    for group in groups:
        share = group.total if total <= limit else max(1, limit * group.total // total)
        group.rows = _spread(group.rows)
        group.chosen = min(share, group.total)
        for folder, row in group.rows[: group.chosen]:
            ids.setdefault(folder, set()).add(row["id"])
    return Choice(groups, datasets, {folder: frozenset(some) for folder, some in ids.items()})


def datasets_of(run: Path) -> Iterator[list[Dataset]]:
    """The published datasets of each stage that has any."""
    for stage in sorted(path for path in run.iterdir() if path.is_dir()):
        if stage.name in _NOT_STAGES or stage.name.startswith("."):
            continue
        students = student_names(stage)
        found = []
        for manifest in sorted(stage.rglob(MANIFEST)):
            inside = manifest.parent.relative_to(stage).parts
            if _WORKING.isdisjoint(inside) and _is_dataset(manifest):
                part = inside[0] if inside else ""
                found.append(Dataset(manifest.parent, stage.name, part, students))
        if found:
            yield found


def student_names(stage: Path) -> dict[str, str]:
    """Fingerprint -> name of the students that an evaluation's record has."""
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


def _read(datasets: Sequence[Dataset]) -> list[Group]:
    """All groups of one stage, with their light rows."""
    found: dict[str, Group] = {}
    for dataset in datasets:
        for row in dataset.rows([*_LIGHT, "provenance"] if dataset.evaluation else _LIGHT):
            group = dataset.group(row)
            group = found.setdefault(group.key, group)
            group.total += 1
            row.pop("provenance", None)
            group.rows.append((dataset.folder, row))
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


def _in_turn(piles: Sequence[Sequence[_T]]) -> list[_T]:
    return [item for layer in zip_longest(*piles) for item in layer if item is not None]
