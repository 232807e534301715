"""docs/config.md: every field of a config with its default, out of the models' own descriptions.

python -m tests.config_reference

writes the page; ``tests/test_docs.py`` compares it with what the models say.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from step_ray.config import RunConfig, execution_fields
from step_ray.config_suite import Suite

PAGE = Path(__file__).parents[1] / "docs" / "config.md"
HEAD = """\
# Configs

Every field of a config, by section. A config is a YAML file; what it leaves out has the default,
and what it does not know is refused. On the command line `--set SECTION.FIELD=VALUE` sets a field,
where the value is YAML: `--set env.games=null` takes back what the file says, where the default is
null. `step-ray run CONFIG --dry-run` prints a config with all fields that it has; a section that is
not chosen (`step`, `eto`, `steca`, `transfer`) is left out there, and one that is null has no
fields.

A default in `code` is the value; "required" has none, and "filled in" is one that follows from
other fields. Fields with "yes" under *may change* say how the work is done and not what it makes: a
run folder may be continued with other values of them.

<!-- made by python -m tests.config_reference -->
"""
COLUMNS = "| field | default | what it is | may change |\n|---|---|---|---|"
Row = tuple[str, str, str, str]


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## The run\n", table(own(RunConfig))]
    for name, info in RunConfig.model_fields.items():
        if not sections(info.annotation):
            continue
        parts.append(f"\n## {name}\n")
        if info.description != name:
            parts.append(sentence(info.description or "") + "\n")
        parts += section(name, info)
    parts += ["\n## A suite\n", "What `step-ray compare` takes in place of a run's config.\n"]
    parts.append(table((*one[:3], "") for one in rows(Suite, "")))
    return "\n".join(parts) + "\n"


def section(name: str, info: FieldInfo) -> Iterator[str]:
    """The tables of a section: what all its kinds have in common, then each kind's own."""
    kinds = sections(info.annotation)
    prefix = f"{name}." if typing.get_origin(info.annotation) is not dict else f"{name}.NAME."
    if len(kinds) == 1:
        yield table(rows(next(iter(kinds.values())), prefix, deep=name != "transfer"))
        return
    listed = {tag: list(rows(kind, prefix)) for tag, kind in kinds.items()}
    common = [row for row in next(iter(listed.values())) if all(row in m for m in listed.values())]
    if common:
        yield table(common)
    for tag, found in listed.items():
        if own_rows := [row for row in found if row not in common]:
            yield f"\n### {name}: {tag}\n"
            yield table(own_rows)
    for tag, kind in kinds.items():
        for inner, one in kind.model_fields.items():
            if len(sections(one.annotation)) > 1:
                yield f"\n### {prefix}{inner}, of {name}: {tag}\n"
                yield sentence(one.description or "")
                yield from section(f"{prefix}{inner}", one)


def own(model: type[BaseModel]) -> Iterator[Row]:
    """Fields of a model that are no sections."""
    for name, info in model.model_fields.items():
        if not sections(info.annotation):
            yield row(name, info)


def rows(model: type[BaseModel], prefix: str, deep: bool = True) -> Iterator[Row]:
    """All fields of a model, with those of the sections that it holds; of sections that are one of
    several, none, as they have tables of their own."""
    for name, info in model.model_fields.items():
        yield row(f"{prefix}{name}", info)
        kinds = sections(info.annotation)
        if deep and len(kinds) == 1:
            yield from rows(next(iter(kinds.values())), f"{prefix}{name}.")


def row(field: str, info: FieldInfo) -> Row:
    changes = any(f"{field}.".startswith(f"{one}.") for one in execution_fields())
    return f"`{field}`", default(info), info.description or "", "yes" if changes else ""


def default(info: FieldInfo) -> str:
    if info.default_factory is not None:
        value = info.get_default(call_default_factory=True)
        return "its fields'" if isinstance(value, BaseModel) else f"`{json.dumps(value)}`"
    if info.default is PydanticUndefined:
        return "filled in" if "by default" in (info.description or "") else "required"
    return f"`{json.dumps(info.default, default=str)}`"


def sections(annotation: Any, tag: str = "") -> dict[str, type[BaseModel]]:
    """The models that an annotation names, by their tags."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {tag or annotation.__name__: annotation}
    parts = typing.get_args(annotation)
    tag = next((part.tag for part in parts if isinstance(part, Tag)), tag)
    return {key: kind for part in parts for key, kind in sections(part, tag).items()}


def table(found: Iterator[Row] | list[Row]) -> str:
    lines = (" | ".join(re.sub(r"([|*])", r"\\\1", cell) for cell in one) for one in found)
    return "\n".join([COLUMNS, *(f"| {line} |" for line in lines)])


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(PAGE)
