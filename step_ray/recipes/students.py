"""Where the students of a stage answer: in every worker, or in engines that all workers share."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from step_ray.config import StudentConfig
from step_ray.config_models import VllmModelConfig
from step_ray.models.base import ChatModel, ModelError
from step_ray.models.fingerprint import model_fingerprint
from step_ray.models.make import make_model
from step_ray.patience import PATIENT, Patience

ADAPTER = "adapter"  # what a training with LoRA leaves in the folder of its merged model
Load = Callable[[str], ChatModel]


@contextlib.contextmanager
def students_of(
    config: StudentConfig, models: Sequence[Path], run: Path, patience: Patience = PATIENT
) -> Iterator[Load]:
    """What a worker calls with a model's folder to get that student. Engines are Serve applications
    of the ``run``; without ``models`` there is none.

    Raises :class:`ModelError` if an engine finds no room or does not start, or if the students
    should share one and are not adapters of one model.
    """
    if config.backend == "local":
        yield functools.partial(
            local_student, dtype=config.dtype, slots=config.slots, context=config.context
        )
        return
    from step_ray.models.applications import withdraw
    from step_ray.models.served import ModelHandle, app_of, deploy

    shared = config.share_engine and models
    base, adapters = common_base(models) if shared else (None, {})
    engines = models if base is None else [base]
    handles: dict[str, ChatModel] = {}
    begun: list[str] = []
    try:
        for number, folder in enumerate(engines):
            begun.append(app_of(run, f"student-{number}"))
            served = config.served(folder)
            assert isinstance(served, VllmModelConfig)
            handles[str(folder)] = deploy(
                begun[-1],
                functools.partial(make_model, served, adapters),
                replicas=config.scaling(),
                cpus=0,  # Ray's CPUs are for workers; an engine takes what cores there are
                gpus=config.gpus_per_replica,
                nodes=config.nodes,
                patience=patience,
            )
        for name in adapters:
            handles[name] = ModelHandle(begun[0], model_fingerprint(name), adapter=name)
        yield handles.__getitem__
    finally:
        withdraw(*begun)


def common_base(models: Sequence[Path]) -> tuple[Path, dict[str, str]]:
    """The model that all ``models`` are adapters of, and the adapter of each (by its folder; the
    base itself has none). Raises :class:`ModelError` if there is no such model."""
    bases: set[Path] = set()
    adapters: dict[str, str] = {}
    for folder in models:
        settings = folder / ADAPTER / "adapter_config.json"
        if settings.is_file():
            found = json.loads(settings.read_text("utf-8")).get("base_model_name_or_path") or ""
            bases.add(Path(found))
            adapters[str(folder)] = str(folder / ADAPTER)
    base = next(iter(bases), None)
    if base is None or len(bases) > 1 or not base.is_dir():
        raise ModelError(
            "student.share_engine: the students are adapters of no common model that is there "
            f"({', '.join(sorted(map(str, bases))) or 'none has an adapter'}) -> set it to false, "
            "or train again (--fresh) with training.lora"
        )
    for folder in models:
        if str(folder) not in adapters and folder.resolve() != base.resolve():
            raise ModelError(
                f"student.share_engine: {folder} is no adapter of {base} -> set it to false"
            )
    return base, adapters


def local_student(path: str, *, dtype: str, slots: int, context: int) -> ChatModel:
    """A model in the process that calls this."""
    from step_ray.models.local import LocalModel  # torch is loaded in workers, not in the driver

    return LocalModel(path, slots=slots, dtype=dtype, max_length=context)
