"""Who reviews the student's turns: the environment's expert, a language model, or the student."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from step_ray.config_models import ModelConfig, RemoteModelConfig
from step_ray.config_section import EXECUTION, Section
from step_ray.config_text import Problem

_TYPES = "expert: the environment's own expert; llm: a language model; self: the student, prompted"


class _Teacher(Section):
    """What every teacher has."""

    type: str
    style: Literal["full", "brief", "bare"] = Field(
        default="brief", description="how much a reflection says: full, brief or bare"
    )

    def problems(self, review_deadline: float) -> Iterator[Problem]:
        """What is wrong, though every field is right by itself."""
        yield from ()


class ExpertTeacherConfig(_Teacher):
    """The teacher made of the environment's own expert."""

    type: Literal["expert"] = Field(default="expert", description=_TYPES)


class _Asked(_Teacher):
    """What every language model as a teacher has."""

    replicas: int = Field(
        default=1, ge=1, description="teachers that work side by side", json_schema_extra=EXECUTION
    )
    calls: Literal["one", "two"] = Field(
        default="two",
        description="two: it judges, and corrects when asked again; one: both at once",
    )
    privileged: bool = Field(
        default=False,
        description="whether it is told what the environment's own judge and expert say",
    )
    show_admissible: bool = Field(
        default=False, description="whether it is shown the possible actions (true or false)"
    )
    prompts: Path | None = Field(
        default=None,
        description="folder with prompts of one's own in place of the packaged ones; null: none",
        json_schema_extra=EXECUTION,  # what they say is part of the prompt version
    )
    temperature: float = Field(
        default=0.0, ge=0, le=2, description="sampling temperature, 0 (greedy) to 2"
    )
    max_tokens: int = Field(default=600, ge=16, description="longest reply, in tokens, >= 16")
    attempts: int = Field(
        default=3, ge=1, description="times it is asked while replies are unusable, >= 1"
    )
    constrain: bool = Field(
        default=True,
        description="whether replies are forced into a JSON schema where possible (true or false)",
    )
    cache: bool = Field(
        default=True,
        description="whether replies are kept and never paid for again (true or false)",
        json_schema_extra=EXECUTION,
    )
    cache_folder: Path | None = Field(
        default=None,
        description="where they are kept, where file locks work; null: in the run's folder",
        json_schema_extra=EXECUTION,
    )

    def problems(self, review_deadline: float) -> Iterator[Problem]:
        if self.prompts is not None and not self.prompts.expanduser().is_dir():
            yield (
                ("teacher.prompts",),
                f"teacher.prompts: no such folder ({self.prompts}) -> check the path, or use null "
                "for the packaged prompts",
            )
        if self.cache_folder is not None and not self.cache:
            yield (
                ("teacher.cache_folder", "teacher.cache"),
                "teacher.cache_folder: does nothing, as teacher.cache is false -> remove it, or "
                "set teacher.cache to true",
            )


class LLMTeacherConfig(_Asked):
    """A language model as the teacher."""

    type: Literal["llm"] = Field(default="llm", description=_TYPES)
    model: ModelConfig = Field(description="the model that is asked")

    def problems(self, review_deadline: float) -> Iterator[Problem]:
        if not isinstance(self.model, RemoteModelConfig):
            yield from self.model.problems("teacher.model")
            if self.model.backend == "local" and self.constrain:
                yield _cannot_constrain("teacher.model.backend")
        elif self.model.deadline > review_deadline:
            yield (
                ("teacher.model.deadline", "synthesis.deadlines.review"),
                "teacher.model.deadline: longer than a review may take "
                f"({self.model.deadline:g} > {review_deadline:g} seconds) -> lower it, or raise "
                "synthesis.deadlines.review",
            )
        yield from super().problems(review_deadline)


class SelfTeacherConfig(_Asked):
    """The student, prompted, as its own teacher: self-reflection."""

    type: Literal["self"] = Field(default="self", description=_TYPES)
    weights: Literal["acting", "original"] = Field(
        default="acting",
        description="which weights review: acting (those of the agent that is watched) or original "
        "(the model that every student starts from)",
    )

    def of(self, model: ModelConfig) -> LLMTeacherConfig:
        """The teacher, once there is a student: ``model`` is the one that is asked."""
        same = self.model_dump(exclude={"type", "weights"})
        return LLMTeacherConfig(**same, model=model)

    def student_problems(self, backend: str, context: int) -> Iterator[Problem]:
        """What does not go together with the student's ``backend`` and ``context`` (tokens)."""
        if backend == "local" and self.constrain:
            yield _cannot_constrain("student.backend")
        if self.max_tokens >= context:
            yield (
                ("teacher.max_tokens", "student.context"),
                f"teacher.max_tokens: leaves no room in the student's context ({self.max_tokens} "
                f">= {context}) -> lower it, or raise student.context",
            )


def _cannot_constrain(backend: str) -> Problem:
    return (
        ("teacher.constrain", backend),
        "teacher.constrain: local models cannot be made to follow a schema (true) -> set "
        f"teacher.constrain to false, or {backend} to vllm",
    )


def _which(raw: Any) -> str:
    kind = raw.get("type", "expert") if isinstance(raw, dict) else getattr(raw, "type", "expert")
    return kind if kind in ("llm", "self") else "expert"


TeacherConfig = Annotated[
    Annotated[ExpertTeacherConfig, Tag("expert")]
    | Annotated[LLMTeacherConfig, Tag("llm")]
    | Annotated[SelfTeacherConfig, Tag("self")],
    Discriminator(_which),
]
"""The section ``teacher``. Its field ``type`` decides which fields there are."""

KnownTeacherConfig = ExpertTeacherConfig | LLMTeacherConfig
"""A teacher that can be made. One that is the student is a language model, once there is one."""
