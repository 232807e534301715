"""What every section of a config is."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic.fields import FieldInfo

EXECUTION: dict[str, Any] = {"execution": True}
"""Marks a field that says how the work is done, as opposed to what it makes."""


def of_execution(info: FieldInfo) -> bool:
    """Whether a field is marked so."""
    return isinstance(info.json_schema_extra, dict) and bool(
        info.json_schema_extra.get("execution")
    )


class Section(BaseModel):
    """Unknown fields are refused; nothing can be changed after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_number(cls, value: Any, info: Any) -> Any:
        # YAML reads yes and no as booleans, and pydantic would take them for 1 and 0.
        annotation = cls.model_fields[info.field_name].annotation
        if isinstance(value, bool) and annotation in (int, float, int | None, float | None):
            raise ValueError("should be a number")
        return value


def each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A validator of lists whose elements are names."""
    if len(set(values)) != len(values):
        raise ValueError("has an element twice -> name each once")
    return values
