"""All checks together, and how a person or a program reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial

from rich.console import Console
from rich.text import Text

from step_ray.config import RunConfig
from step_ray.doctor import data, engines, host, plan, versions
from step_ray.doctor.finding import Check, Finding
from step_ray.envs import ENVIRONMENTS
from step_ray.recipes.resources import Node
from step_ray.recipes.world import original_model

_MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "broken": ("BROKEN", "bold red")}
Said = dict[str, list[Finding]]  # where -> what was found there


def machine_checks(config: RunConfig | None = None, node: Node | None = None) -> list[Check]:
    """What is worth asking every machine that works on a run. ``config`` may be None; ``node`` is
    what the machine offers to a cluster, None for one that does all of a run."""
    have = versions.installed()
    needed = config.env.name if config else ""
    checks: list[Check] = [
        versions.check_versions,
        host.check_size,
        partial(host.check_disk, [config.output] if config else []),
        partial(host.check_gpu, have),
        host.check_auth,
        engines.check_java,
        *(partial(engines.check_engine, name, name == needed) for name in ENVIRONMENTS),
        data.check_fetched,
    ]
    if config is not None:
        env, model = config.env, original_model(config)
        checks.append(
            partial(data.check_data, env.name, env.data, env.options(), config.output, model)
        )
        checks.append(partial(plan.check_student, config, have, node))
        checks.append(partial(plan.check_teacher, config))
    return checks


def here(config: RunConfig | None = None) -> Iterator[Finding]:
    """This machine, one finding after the other as they come."""
    for check in [*machine_checks(config), host.check_ports]:
        yield from check()
    if config is not None:
        yield from data.check_run_readable(config.output)


def sound(findings: Sequence[Finding]) -> bool:
    """Whether nothing is broken."""
    return all(finding.status != "broken" for finding in findings)


def printer(console: Console) -> Callable[[Finding], None]:
    """Prints a finding as one line, and its remedy below."""

    def show(finding: Finding) -> None:
        mark, style = _MARKS[finding.status]
        line = Text.assemble((f"{mark:7}", style), f"{finding.topic:13}", finding.says)
        console.print(line, soft_wrap=True)
        if finding.remedy:
            console.print(Text(f"{'':20}-> {finding.remedy}"), soft_wrap=True)

    return show


def as_json(found: Said) -> str:
    """One object: whether all is well, and the findings of each machine."""
    nodes = {where: [asdict(finding) for finding in said] for where, said in found.items()}
    return json.dumps({"sound": all(map(sound, found.values())), "machines": nodes}, indent=2)
