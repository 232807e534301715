"""What ``step-ray envs`` shows: the environments that can be made, and the tasks of one."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from step_ray.envs import ENVIRONMENTS, announced
from step_ray.envs.base import EnvError
from step_ray.envs.terminal import open_env, said, splits_of

# What the embedded data of our own environments needs: modules, and how they are installed.
_NEEDS: dict[str, tuple[tuple[str, ...], str]] = {
    "alfworld": (("alfworld",), "pip install --no-deps alfworld==0.4.2"),
    "scienceworld": (("scienceworld",), 'pip install "step-ray[scienceworld]"'),
    "webshop": (("numpy", "rapidfuzz", "nltk"), 'pip install "step-ray[webshop]"'),
}


@dataclass(frozen=True, slots=True)
class Listed:
    """One environment. ``home``: where it comes from; ``missing``: modules it lacks here, and
    ``install``, the command that brings them ("" if nothing is missing)."""

    name: str
    home: str
    missing: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True, slots=True)
class Described:
    """One environment's tasks: split -> task type -> how many, or why a split has none."""

    name: str
    engine: str
    splits: dict[str, dict[str, int]]
    problems: dict[str, str]


def install_of(name: str) -> str:
    """The command that installs what an environment of ours needs; "" for those of others."""
    return _NEEDS.get(name, ((), ""))[1]


def list_environments() -> list[Listed]:
    """Our own environments, then those of installed packages. Makes and loads none of them."""
    found = []
    for name in ENVIRONMENTS:
        modules, install = _NEEDS.get(name, ((), ""))
        missing = tuple(module for module in modules if importlib.util.find_spec(module) is None)
        found.append(Listed(name, "step-ray", missing, install if missing else ""))
    for name, point in sorted(announced().items()):
        found.append(Listed(name, point.dist.name if point.dist else "another package"))
    return found


def describe(name: str, data: Path | None = None, settings: Sequence[str] = ()) -> Described:
    """Counts the tasks of every split; may generate them. Raises EnvError if it cannot be made, or
    if no split can be listed."""
    env = open_env(name, data, settings)
    counts: dict[str, dict[str, int]] = {}
    problems: dict[str, str] = {}
    engine = ""
    try:
        for split in splits_of(env):
            try:
                tasks = env.tasks(split)
            except EnvError as error:
                problems[split] = str(error)
                continue
            counts[split] = dict(sorted(Counter(task.type for task in tasks).items()))
            if tasks and not engine:
                env.reset(tasks[0])
                engine = env.build().engine
    finally:
        env.close()
    if not counts:
        raise EnvError(next(iter(problems.values())))
    return Described(env.name, engine, counts, problems)


def show_environments(console: Console) -> None:
    """A table of :func:`list_environments`."""
    table = Table("environment", "from", "available", box=SIMPLE_HEAD)
    for env in list_environments():
        lacks = f"no: {', '.join(env.missing)} is missing\n{env.install}" if env.missing else "yes"
        table.add_row(said(env.name), said(env.home), said(lacks))
    console.print(table)
    console.print("step-ray envs NAME lists its tasks; package.module:Class names any other.")


def show_environment(described: Described, console: Console) -> None:
    """A table of one environment's tasks, by type and split."""
    splits = described.splits
    numbers = (Column(said(split), justify="right") for split in splits)
    table = Table("type", *numbers, box=SIMPLE_HEAD)
    for kind in sorted({kind for counts in splits.values() for kind in counts}):
        table.add_row(said(kind), *(str(counts.get(kind, 0)) for counts in splits.values()))
    table.add_section()
    table.add_row("all", *(str(sum(counts.values())) for counts in splits.values()))
    console.print(said(f"{described.name}, engine {described.engine}"))
    console.print(table)
    for split, problem in described.problems.items():
        console.print(said(f"{split}: {problem}"))


def show(
    name: str | None,
    data: Path | None,
    settings: Sequence[str],
    as_json: bool,
    console: Console | None = None,
) -> None:
    """What ``step-ray envs`` does: all environments, or one; as a table or as JSON."""
    console = console or Console()
    described = describe(name, data, settings) if name else None
    if as_json:
        rows = asdict(described) if described else [asdict(env) for env in list_environments()]
        console.print(json.dumps(rows, indent=2), markup=False, highlight=False, soft_wrap=True)
    elif described:
        show_environment(described, console)
    else:
        show_environments(console)
