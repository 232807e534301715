"""Who reviews the student's turns: the environment's expert, or a language model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from step_ray.config_models import ModelConfig, RemoteModelConfig
from step_ray.config_section import EXECUTION, Section
from step_ray.config_text import Problem


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

    type: Literal["expert"] = Field(
        default="expert",
        description="expert: the environment's own expert; llm: a language model",
    )


class LLMTeacherConfig(_Teacher):
    """A language model as the teacher."""

    type: Literal["llm"] = Field(
        default="llm", description="expert: the environment's own expert; llm: a language model"
    )
    model: ModelConfig = Field(description="the model that is asked")
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
        description="where they are kept, on a local disk; null: in the run's folder",
        json_schema_extra=EXECUTION,
    )

    def problems(self, review_deadline: float) -> Iterator[Problem]:
        if not isinstance(self.model, RemoteModelConfig):
            yield from self.model.problems("teacher.model")
            if self.model.backend == "local" and self.constrain:
                yield (
                    ("teacher.constrain", "teacher.model.backend"),
                    "teacher.constrain: local models cannot be made to follow a schema (true) -> "
                    "set teacher.constrain to false, or use the backend vllm",
                )
        elif self.model.deadline > review_deadline:
            yield (
                ("teacher.model.deadline", "synthesis.deadlines.review"),
                "teacher.model.deadline: longer than a review may take "
                f"({self.model.deadline:g} > {review_deadline:g} seconds) -> lower it, or raise "
                "synthesis.deadlines.review",
            )
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


def _which(raw: Any) -> str:
    kind = raw.get("type", "expert") if isinstance(raw, dict) else getattr(raw, "type", "expert")
    return "llm" if kind == "llm" else "expert"


TeacherConfig = Annotated[
    Annotated[ExpertTeacherConfig, Tag("expert")] | Annotated[LLMTeacherConfig, Tag("llm")],
    Discriminator(_which),
]
"""The section ``teacher``. Its field ``type`` decides which fields there are."""
