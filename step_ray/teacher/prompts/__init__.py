"""What a language model is told to make it a teacher: our own prompts, as files, and the chat.

STeP's prompts are not public; these are not them. A chat begins with what is the same for all
episodes of an environment, then the episode as far as it went, and only then what changes with
every question, so that a server's prefix cache serves one turn after the other.

Texts of environments and models are shown as data: each after a label at the beginning of a line,
with further lines indented, and without anything that is a control token to some model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from step_ray.react import neutralise
from step_ray.teacher.base import ReviewRequest, TeacherError, one_line
from step_ray.teacher.schemas import SCHEMAS, Form
from step_ray.trajectory import Turn, content_hash

PACKAGED = Path(__file__).parent
CORE, DEFAULT = "core", "default"
QUESTIONS: tuple[Form, ...] = ("review", "judge", "reflect")
FORMAT = 2  # raised when the code below writes something else around the same files
MAX_LISTED = 200  # possible actions that are shown
MAX_FILE = 100_000  # bytes
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Prompts:
    """The texts for one environment. ``version`` is their hash with all that is put around them:
    the same version is the same question, word for word."""

    head: str
    questions: dict[Form, str]
    version: str


def load_prompts(env: str, folder: str | Path | None = None) -> Prompts:
    """The prompts for an environment. Files in ``folder`` (``core.md``, one named like the
    environment or ``default.md``, ``review.md``, ``judge.md``, ``reflect.md``) stand in for the
    packaged ones of that name.

    Raises :class:`TeacherError` if the folder is none, or holds none of these.
    """
    own = None if folder is None else Path(folder).expanduser()
    packaged = {path.stem for path in PACKAGED.glob("*.md")}
    named = env if re.fullmatch(r"[\w-]+", env) and env not in (CORE, *QUESTIONS) else DEFAULT
    if own is not None:
        found = {path.stem for path in own.glob("*.md")}
        known = sorted({*packaged, named})
        if not found or found - set(known):
            raise TeacherError(
                f"teacher prompts in {own}: {', '.join(sorted(found - set(known))) or 'no file'}; "
                f"a folder of prompts holds some of {', '.join(f'{name}.md' for name in known)}"
            )
        packaged |= found
    named = named if named in packaged else DEFAULT
    texts = {name: _read(name, own) for name in (CORE, named, *QUESTIONS)}
    return Prompts(
        head=f"{texts[CORE]}\n\n{texts[named]}\n\n",
        questions={form: texts[form] for form in QUESTIONS},
        version=f"{named}-{content_hash([FORMAT, texts, SCHEMAS], 12)}",
    )


def render(
    prompts: Prompts, request: ReviewRequest, form: Form, *, privileged: bool
) -> list[dict[str, str]]:
    """The chat that asks for a review: one user message, which every chat template takes.

    ``privileged``: with what the environment knows. Of a request that is ``settled`` the action is
    shown in any case, as STeCa's original does. The request's admissible actions are shown if it
    has any.
    """
    parts = [
        prompts.head,
        "=== The episode ===\n",
        _part("Instruction", request.instruction),
        _part("First observation", request.initial_observation),
        *(_turn(number, turn) for number, turn in enumerate(request.turns, 1)),
    ]
    number = len(request.turns)
    if not request.executed:
        number += 1
        parts.append(_proposal(number, request.thought, request.action))
    parts.append("\n=== The question ===\n")
    done = "has been executed" if request.executed else "is proposed and has not been executed"
    parts.append(f"The last turn is Turn {number}; it {done}.\n")
    if privileged and request.hint is not None:
        parts.append(_hint(request))
    if request.settled and request.hint is not None:
        parts.append(
            "The last turn was not the best one, and may lead astray.\n"
            + _part("The corrected action is settled", request.hint.expert_action)
            + "Give that action, and the thought of an agent that sees its mistake and is led to "
            "it.\n"
        )
    if request.admissible is not None:
        parts.append(_listed(request.admissible))
    parts.append(prompts.questions[form])
    return [{"role": "user", "content": "".join(parts)}]


def unusable(reply: str, why: str) -> list[dict[str, str]]:
    """What is added to a chat after a reply that is no review."""
    said = clean(reply)[:2000].strip() or "(nothing)"
    return _exchange(
        said,
        f"That cannot be used: {clean(one_line(why))}. Answer with the one JSON object alone, "
        "complete, with all its keys.",
    )


def refused(reply: str, action: str, answer: str) -> list[dict[str, str]]:
    """What is added to a chat after a correction that the environment does not take."""
    return _exchange(
        clean(reply).strip(),
        "The corrected action is not possible in the present state.\n"
        + _part("Action", action)
        + _part("The environment's answer", answer)
        + "Choose another action that is possible now. Answer with the whole JSON object again.",
    )


def clean(text: str) -> str:
    """Text of others without control tokens and characters that no file can hold."""
    return neutralise(_SURROGATE.sub("\ufffd", text))


def _exchange(said: str, then: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": said}, {"role": "user", "content": then}]


def _read(name: str, own: Path | None) -> str:
    path = PACKAGED / f"{name}.md"
    if own is not None and (own / f"{name}.md").is_file():
        path = own / f"{name}.md"
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8").strip() if len(raw) <= MAX_FILE else ""
    except (OSError, UnicodeDecodeError) as error:
        raise TeacherError(f"teacher prompt {path}: not readable as UTF-8 text ({error})") from None
    if not text:
        raise TeacherError(f"teacher prompt {path}: empty, or over {MAX_FILE} bytes")
    return text.replace("\r\n", "\n")


def _part(label: str, text: str) -> str:
    """A labelled text: nothing in it can begin a line, so nothing in it is a label."""
    return f"{label}: " + "\n    ".join(clean(text).splitlines() or [""]) + "\n"


def _proposal(number: int, thought: str, action: str, note: str = "") -> str:
    return f"Turn {number}{note}\n" + _part("Thought", thought) + _part("Action", action)


def _turn(number: int, turn: Turn) -> str:
    note = " (a correction by you)" if turn.author == "teacher" else ""
    text = _proposal(number, turn.thought, turn.action, note)
    if not turn.executed:
        return text + "Not executed, as it was an error.\n"
    return text + _part("Observation", turn.observation)


def _hint(request: ReviewRequest) -> str:
    """What the environment knows of the last turn, in words."""
    assert request.hint is not None
    judgement = request.hint.judgement
    why = dict(judgement.facts).get("why", "")
    verdict = f"it is an error ({judgement.kind})" if judgement.is_error else "it is no error"
    lines = _part(
        "The environment's check of the last turn", f"{verdict}. {why}".rstrip(". ") + "."
    )
    if request.hint.expert_action:
        lines += _part("What an expert would do now", request.hint.expert_action)
        lines += _part("Why", request.hint.expert_thought)
    return lines + "The check and the expert know more than the agent can. Rely on them.\n"


def _listed(actions: Sequence[str]) -> str:
    shown = "\n".join(actions[:MAX_LISTED])
    more = f"and {len(actions) - MAX_LISTED} more\n" if len(actions) > MAX_LISTED else ""
    return _part("Actions that are possible now", f"\n{shown}") + more
