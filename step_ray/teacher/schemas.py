"""What a teacher's replies have to look like: JSON schemas, flat and closed, every key required.

That form is what constrained decoding takes everywhere (OpenAI's strict mode, vLLM's grammars).
``assessment`` comes first: a model that has to say why before it says what judges better.

Texts are bounded, or a weak model under a grammar fills the first one until its tokens are spent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Form = Literal["review", "judge", "reflect"]
"""Everything at once, the verdict alone, or the correction of a known error."""

KINDS: Mapping[str, str] = {
    "invalid": "the action is not possible here",
    "loop": "repeats what brought nothing before",
    "wrong_object": "acts on a thing the task does not ask for",
    "wrong_query": "searches with words that do not describe the thing",
    "wrong_option": "chooses or buys another option than the task names",
    "wrong_focus": "focuses on what the task does not ask for now",
    "misplaced": "puts something in the wrong place, or too early",
    "undo": "takes back what the task needs",
    "detour": "leaves the way although the next step is known",
    "harmful": "spoils what the task needs for good",
    "other": "harms the task in another way",
}
"""Kinds of errors, as judges of environments name them; ``other`` for what is none of these."""

TEXT_LIMIT = 400  # characters; prompts ask for a sentence or two
ACTION_LIMIT = 200

_TEXT = {"type": "string", "maxLength": TEXT_LIMIT}
_VERDICT: dict[str, Any] = {
    "assessment": _TEXT,
    "is_error": {"type": "boolean"},
    "kind": {"type": "string", "enum": ["", *KINDS]},
}
_CORRECTION: dict[str, Any] = {
    **dict.fromkeys(("error", "reason", "reflection", "thought"), _TEXT),
    "action": {"type": "string", "maxLength": ACTION_LIMIT},
}
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


def _unbounded(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = {
        name: {key: value for key, value in of.items() if key != "maxLength"}
        for name, of in schema["properties"].items()
    }
    return {**schema, "properties": properties}


LADDER = (SCHEMAS, {form: _unbounded(schema) for form, schema in SCHEMAS.items()})
"""What a server is asked for in turn, as long as it refuses: some know no ``maxLength``."""
