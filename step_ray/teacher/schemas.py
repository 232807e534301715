"""What a teacher's replies have to look like: JSON schemas, flat and closed, every key required.

That form is what constrained decoding takes everywhere (OpenAI's strict mode, vLLM's grammars).
``assessment`` comes first: a model that has to say why before it says what judges better.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Form = Literal["review", "judge", "reflect"]
"""Everything at once, the verdict alone, or the correction of a known error."""

KINDS = ("invalid", "loop", "wrong_object", "misplaced", "undo", "detour", "other")
"""Kinds of errors, as judges of environments name them; ``other`` for what is none of these."""

_TEXT = {"type": "string"}
_VERDICT: dict[str, Any] = {
    "assessment": _TEXT,
    "is_error": {"type": "boolean"},
    "kind": {"type": "string", "enum": ["", *KINDS]},
}
_CORRECTION = dict.fromkeys(("error", "reason", "reflection", "thought", "action"), _TEXT)
_PROPERTIES: dict[Form, dict[str, Any]] = {
    "review": {**_VERDICT, **_CORRECTION},
    "judge": _VERDICT,
    "reflect": _CORRECTION,
}
SCHEMAS: Mapping[Form, Mapping[str, Any]] = {
    form: {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    for form, properties in _PROPERTIES.items()
}
