"""From YAML text to values and from validation errors to sentences; knows no particular config."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Discriminator, Tag, ValidationError
from pydantic.fields import FieldInfo

Location = tuple[str | int, ...]
Problem = tuple[tuple[str, ...], str]
"""The fields that do not go together, and the line for a person."""


class ConfigError(ValueError):
    """A config cannot be used. ``problems`` has one line each: field, what is wrong, remedy."""

    def __init__(self, problems: Sequence[str], where: str = "config") -> None:
        self.problems = list(problems)
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        super().__init__(f"{where}: {count}\n" + "\n".join(f"  {line}" for line in problems))


class _Loader(yaml.SafeLoader):
    """YAML in which the same key twice is an error: the second would silently win. What no value
    can be made of is an error of YAML too, at its place."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (TypeError, ValueError) as error:  # such as a date of month 13
            raise yaml.constructor.ConstructorError(
                None, None, str(error), node.start_mark
            ) from None

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue  # refused as a key below
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key_node.value} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises :class:`ConfigError` for anything else."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # a SafeLoader
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror} -> check the path"], str(path)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())
        raise ConfigError(
            [f"not valid YAML: {text} -> correct that line, or quote its value"], str(path)
        ) from None
    if not isinstance(value, dict):
        raise ConfigError(["not a mapping of fields -> write lines like 'seed: 1'"], str(path))
    return value


def apply_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Sets ``a.b=c`` in place, ``c`` being YAML; returns the problems of those it could not."""
    problems = []
    for override in overrides:
        field, equals, text = override.partition("=")
        parts = field.strip().split(".")
        if not equals or not all(parts):
            problems.append(f"{override}: not an override -> write section.field=value")
            continue
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError:
            problems.append(f"{field}: not valid YAML ({text}) -> quote the value")
            continue
        section = raw
        for part in parts[:-1]:
            if section.get(part) is None:
                section[part] = {}
            section = section[part]
            if not isinstance(section, dict):
                problems.append(f"{field}: {part} is a value, not a section -> set {part} itself")
                break
        else:
            section[parts[-1]] = value
    return problems


def describe(
    error: ValidationError, raw: Any, model: type[BaseModel]
) -> list[tuple[Location, str]]:
    """(location, line for a person) of everything in ``raw`` that pydantic refused."""
    found: dict[Location, str] = {}
    for item in error.errors(include_url=False):
        location = _real(item["loc"], raw, item["type"] == "missing")
        # A value that fits no member of a union is one problem, not one per member.
        found.setdefault(location, _line(location, dict(item), dict(fields_of(model, "", raw))))
    return list(found.items())


def prune(raw: Any, location: Location) -> bool:
    """Removes the value at a location, so that the rest can be checked; False if there is none."""
    if not location:
        return False
    for part in location[:-1]:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return False
    try:
        del raw[location[-1]]
    except (KeyError, IndexError, TypeError):
        return False
    return True


def fields_of(
    model: type[BaseModel], prefix: str = "", raw: Any = None
) -> Iterator[tuple[str, FieldInfo]]:
    """Dotted name and definition of every field, sections before what they hold.

    Of sections that are one of several, all are meant; with ``raw`` values, those these choose.
    Where sections have names of a person's own, ``*`` stands for these, or those in ``raw``.
    """
    for name, info in model.model_fields.items():
        yield f"{prefix}{name}", info
        value = raw.get(name) if isinstance(raw, dict) else None
        if typing.get_origin(info.annotation) is dict:
            named = {"*": None} if raw is None else value if isinstance(value, dict) else {}
            for key, one in named.items():
                for inner in _models_in(info.annotation):
                    yield from fields_of(inner, f"{prefix}{name}.{key}.", one)
            continue
        tag = None if raw is None else _tag(info, value)
        for inner in _models_in(info.annotation, tag):
            yield from fields_of(inner, f"{prefix}{name}.", value)


def dotted(location: Location) -> str:
    """``("a", "b", 0)`` as ``a.b.0``."""
    return ".".join(map(str, location)) or "config"


def _real(location: Location, raw: Any, missing: bool) -> Location:
    """Without the members of unions, which pydantic names as if they were keys."""
    real: list[str | int] = []
    for part in location:
        if isinstance(raw, dict | list | tuple) and (
            part in raw if isinstance(raw, dict) else isinstance(part, int) and part < len(raw)
        ):
            real.append(part)
            raw = raw[part]  # type: ignore[index]
        elif missing and part == location[-1]:
            real.append(part)
    return tuple(real)


def _line(location: Location, item: Mapping[str, Any], known: Mapping[str, FieldInfo]) -> str:
    field, value = dotted(location), item.get("input")
    # An element of a list is described by the list's field.
    info = known.get(dotted(tuple(p for p in location if isinstance(p, str))))
    shown = "" if isinstance(value, dict) or _may_be_secret(field, info) else f" ({value!r})"
    description = (info.description if info else None) or "correct it"
    if isinstance(value, dict) and item["type"] != "missing":
        description = "correct this section"
    match item["type"]:
        case "extra_forbidden":
            return f"{field}: unknown field{shown} -> {_suggest(location, known)}"
        case "missing":
            return f"{field}: missing -> add it: {description}"
        case "value_error":
            message, _, remedy = str(item["ctx"]["error"]).partition(" -> ")
            return f"{field}: {message}{shown} -> {remedy or description}"
        case "model_type":
            names = ", ".join(_names_under(f"{field}.", known))
            return f"{field}: should be a section{shown} -> give it fields: {names}"
        case _:
            message = item["msg"].removeprefix("Input ")
            return f"{field}: {message}{shown} -> {description}"


def _may_be_secret(field: str, info: FieldInfo | None) -> bool:
    """Whether a key may have been put there: by its mark, or by the name of an unknown field."""
    if info is None:
        return bool(re.search("key|token|secret|password|auth", field, re.IGNORECASE))
    return isinstance(info.json_schema_extra, dict) and bool(info.json_schema_extra.get("secret"))


def remove(values: dict[str, Any], place: Sequence[str]) -> None:
    """Removes what is at a dotted place, if it is there; ``*`` stands for every name."""
    name, *rest = place
    for key in list(values) if name == "*" else [name]:
        if not rest:
            values.pop(key, None)
        elif isinstance(values.get(key), dict):
            remove(values[key], rest)


def overlap(field: str, other: str) -> bool:
    """Whether one of two dotted fields is the other, or in it."""
    return f"{field}.".startswith(f"{other}.") or f"{other}.".startswith(f"{field}.")


def _suggest(location: Location, known: Iterable[str]) -> str:
    *parents, name = map(str, location)
    section = ".".join(parents)
    prefix = f"{section}." if section else ""
    here = _names_under(prefix, known)
    close = difflib.get_close_matches(name, here, n=1, cutoff=0.6)
    close += [longer for longer in here if longer.endswith(f"_{name}")]
    if close:
        return f"did you mean {prefix}{close[0]}?"
    elsewhere = [field for field in known if field.rpartition(".")[2] == name]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    return f"remove it; known here: {', '.join(here)}" if here else "remove it"


def _names_under(prefix: str, known: Iterable[str]) -> list[str]:
    names = [f.removeprefix(prefix) for f in known if f.startswith(prefix)]
    return [name for name in names if "." not in name]


def _tag(info: FieldInfo, value: Any) -> str | None:
    """Which of the sections that a field may be ``value`` chooses, if it chooses."""
    for chooser in info.metadata:
        if isinstance(chooser, Discriminator) and callable(chooser.discriminator):
            return str(chooser.discriminator(value))
    return None


def _models_in(annotation: Any, tag: str | None = None) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    parts = typing.get_args(annotation)
    tags = [part.tag for part in parts if isinstance(part, Tag)]
    if tag is None or tag in tags or not tags:
        for part in parts:
            yield from _models_in(part, tag)
