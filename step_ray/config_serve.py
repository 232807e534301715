"""How the models of a config are offered to people outside, over HTTP."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from step_ray.config_models import adapter_problem
from step_ray.config_section import Section
from step_ray.config_text import Problem

SERVED = ("teacher", "student")
"""What a config's models are called outside."""


class ServeConfig(Section):
    """The HTTP server of ``step-ray serve``."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="address to listen at; 0.0.0.0: reachable from other machines",
    )
    port: int = Field(default=8000, ge=1, le=65535, description="port to listen at, 1 to 65535")
    token_env: str = Field(
        default="STEP_RAY_TOKEN",
        pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$",
        description="the NAME of the environment variable with the token that requests have to "
        "carry; never the token itself. Empty: whoever reaches the port may ask",
        json_schema_extra={"secret": True},
    )
    max_request_mb: float = Field(
        default=4.0, gt=0, le=1024, description="largest request, in MiB, > 0"
    )
    deadline: float = Field(default=600.0, gt=0, description="seconds for one reply, > 0")
    drain: float = Field(
        default=60.0,
        ge=0,
        description="seconds that replies under way are given when the server is stopped, >= 0",
    )
    adapters: dict[str, Path] = Field(
        default_factory=dict,
        description="further students by name: folders of LoRA adapters on student.model, in the "
        "same engine (student.backend vllm)",
    )

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def problems(self, student: Any) -> Iterator[Problem]:
        """What is wrong though every field is right by itself."""
        if self.adapters and student.backend != "vllm":
            yield (
                ("serve.adapters", "student.backend"),
                f"serve.adapters: one engine with several students needs vLLM "
                f"({', '.join(self.adapters)}) -> set student.backend to vllm, or remove them",
            )
        for name, folder in self.adapters.items():
            field = f"serve.adapters.{name}"
            if name in SERVED or not name:
                yield (field,), f"{field}: {' and '.join(SERVED)} are taken ({name}) -> rename it"
            elif problem := adapter_problem(folder):
                yield (field,), f"{field}: {problem}"
