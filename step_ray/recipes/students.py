"""Where the students of a stage answer: in every worker, or in engines that all workers share."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from step_ray.config import StudentConfig
from step_ray.models.base import ChatModel

Load = Callable[[str], ChatModel]


@contextlib.contextmanager
def students_of(config: StudentConfig, models: Sequence[Path]) -> Iterator[Load]:
    """What a worker calls with a model's folder to get that student."""
    if config.backend == "local":
        yield functools.partial(
            local_student, dtype=config.dtype, slots=config.slots, context=config.context
        )
        return
    from step_ray.models.served import deploy, withdraw

    engine = {
        "dtype": config.dtype,
        "max_model_len": config.context,
        "max_num_seqs": config.slots,
        **config.engine,
    }
    handles: dict[str, ChatModel] = {}
    try:
        for number, path in enumerate(models):
            handles[str(path)] = deploy(
                f"step-ray-student-{number}",
                functools.partial(_vllm, str(path), engine),
                replicas=config.replicas,
                gpus=config.gpus_per_replica,
            )
        yield functools.partial(_served, handles)
    finally:
        for number in range(len(handles)):
            withdraw(f"step-ray-student-{number}")


def local_student(path: str, *, dtype: str, slots: int, context: int) -> ChatModel:
    """A model in the process that calls this."""
    from step_ray.models.local import LocalModel  # torch is loaded in workers, not in the driver

    return LocalModel(path, slots=slots, dtype=dtype, max_length=context)


def _vllm(path: str, engine: Mapping[str, object]) -> ChatModel:
    from step_ray.models.vllm import VllmModel

    return VllmModel(path, engine=engine)


def _served(handles: Mapping[str, ChatModel], path: str) -> ChatModel:
    return handles[path]
