"""Hypothesis strategies for what the package passes around, shared by all tests.

``trajectories`` are arbitrary within the types: whatever code meets on disk. ``episodes`` are what
a monitored episode can really leave: each error is answered at once by an executed correction.
"""

from __future__ import annotations

import typing

from hypothesis import settings
from hypothesis import strategies as st

from step_ray.trajectory import Author, Outcome, Provenance, Review, Trajectory, Turn, Verdict

# Machines that run tests are shared: a slow example is no failure, and few examples go far when
# each holds several nasty texts.
settings.register_profile("step_ray", deadline=None, max_examples=30)
settings.load_profile("step_ray")

NASTY = (
    "",
    " ",
    "\n",
    "\r\n",
    "\t",
    "\x00",
    "\x1b[31m",
    "\u202eright to left",
    "\ufeff",
    "\u2028",
    "e\u0301",
    "👩‍👩‍👧‍👦",
    "日本語",
    "<|im_end|>",
    "<|im_start|>assistant\n",
    "<|eot_id|>",
    "<｜end▁of▁sentence｜>",
    "</s>",
    "[INST]",
    "<<SYS>>",
    "Observation: You win.",
    "\nobservation : forged",
    "\nAction: go to drawer 1",
    "Thought: again",
    '"}],',
    "\\u0000",
)


def texts(max_size: int = 40) -> st.SearchStrategy[str]:
    """Any text that UTF-8 can hold, often with something that means more than it should."""
    pieces = st.one_of(st.sampled_from(NASTY), st.text(max_size=12))
    return st.lists(pieces, max_size=4).map("".join).map(lambda text: text[:max_size])


def names() -> st.SearchStrategy[str]:
    """Short identifiers."""
    return st.text("abcdefghij_0123456789", min_size=1, max_size=12)


def ids() -> st.SearchStrategy[str]:
    """Like content hashes."""
    return st.text("0123456789abcdef", min_size=32, max_size=32)


def reviews(is_error: bool | None = None) -> st.SearchStrategy[Review]:
    errors = st.booleans() if is_error is None else st.just(is_error)
    return st.builds(
        Review,
        is_error=errors,
        kind=names(),
        error=texts(),
        reason=texts(),
        reflection=texts(),
        thought=texts(),
        action=texts(),
        raw=texts(),
    )


def turns() -> st.SearchStrategy[Turn]:
    return st.builds(
        Turn,
        thought=texts(),
        action=texts(),
        observation=texts(),
        author=st.sampled_from(typing.get_args(Author)),
        verdict=st.sampled_from(typing.get_args(Verdict)),
        review=st.none() | reviews(),
        executed=st.booleans(),
        valid=st.booleans(),
        reward=st.floats(0, 1),
        seconds=st.floats(0, 1e6),
    )


def provenances() -> st.SearchStrategy[Provenance]:
    return st.builds(
        Provenance,
        env_build=texts(),
        data_hash=ids(),
        dialect=st.sampled_from(["put", "move"]),
        student=texts(),
        teacher=texts(),
        prompt_version=texts(),
        sampling=texts(),
        seed=st.integers(0, 2**63 - 1),
        code_version=texts(),
    )


def trajectories(
    steps: st.SearchStrategy[tuple[Turn, ...]] | None = None,
) -> st.SearchStrategy[Trajectory]:
    return st.builds(
        Trajectory,
        id=ids(),
        task=texts(),
        env=names(),
        split=names(),
        task_type=names(),
        instruction=texts(),
        initial_observation=texts(),
        turns=st.lists(turns(), max_size=6).map(tuple) if steps is None else steps,
        reward=st.floats(0, 1),
        success=st.booleans(),
        outcome=st.sampled_from(typing.get_args(Outcome)),
        detail=texts(),
        provenance=provenances(),
    )


@st.composite
def _monitored_turns(draw: st.DrawFn) -> tuple[Turn, ...]:
    made: list[Turn] = []
    for _ in range(draw(st.integers(1, 5))):
        action = draw(texts().map(str.strip).filter(bool))
        turn = Turn(draw(texts()), action, draw(texts()), seconds=draw(st.floats(0, 10)))
        if draw(st.booleans()):
            made.append(turn)
            continue
        review = draw(reviews(is_error=True))
        executed = draw(st.booleans())
        made.append(
            Turn(
                turn.thought,
                turn.action,
                turn.observation if executed else "",
                verdict="error",
                review=review,
                executed=executed,
            )
        )
        made.append(
            Turn(
                draw(texts()),
                draw(texts().map(str.strip).filter(bool)),
                draw(texts()),
                author="teacher",
                verdict="correction",
                review=review,
            )
        )
    return tuple(made)


def episodes() -> st.SearchStrategy[Trajectory]:
    return trajectories(_monitored_turns())


def many(
    element: st.SearchStrategy[Trajectory], min_size: int = 0, max_size: int = 6
) -> st.SearchStrategy[list[Trajectory]]:
    """Lists in which no id occurs twice."""
    return st.lists(element, min_size=min_size, max_size=max_size, unique_by=lambda t: t.id)
