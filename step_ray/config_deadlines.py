"""How long an episode waits for whom. Importable without torch or Ray."""

from __future__ import annotations

from pydantic import Field

from step_ray.config_section import Section


class Deadlines(Section):
    """Seconds until something counts as stuck."""

    reset: float = Field(default=60.0, gt=0, description="seconds to start an episode, > 0")
    step: float = Field(default=30.0, gt=0, description="seconds for one action, > 0")
    student: float = Field(
        default=300.0, gt=0, description="seconds for one reply of the student, > 0"
    )
    review: float = Field(
        default=900.0, gt=0, description="seconds for one review of the teacher, > 0"
    )
    close: float = Field(default=10.0, gt=0, description="seconds to close an environment, > 0")
    episode: float = Field(default=3600.0, gt=0, description="seconds for a whole episode, > 0")
