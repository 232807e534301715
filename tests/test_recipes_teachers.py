"""A teacher whose model is a folder, served on the cluster: monitored episodes with it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from adapters import make_adapter
from doubles import drifting, spec_of

pytest.importorskip("torch")
pytest.importorskip("ray")

from step_ray.config import parse_config
from step_ray.config_deadlines import Deadlines
from step_ray.envs import make_env
from step_ray.models.base import Sampling
from step_ray.models.fingerprint import model_fingerprint
from step_ray.models.make import PACKAGED_MODEL
from step_ray.schema import from_row
from step_ray.synthesis.filters import Filter
from step_ray.synthesis.worker import EpisodeWorker, WorkerSettings
from step_ray.teacher.make import make_teacher
from step_ray.trajectory import Outcome, Trajectory

pytestmark = pytest.mark.ray
OPTIONS = {"games": {"train": 6, "valid_seen": 0, "valid_unseen": 0}, "seed": 3}
CHORES = ("go to cabinet 1", "go to drawer 1", "open drawer 1", "look", "inventory", "dance")
VLLM = {
    "backend": "vllm",
    "model": str(PACKAGED_MODEL),
    "engine": {
        "dtype": "float32",
        "enforce_eager": True,
        "max_model_len": 4096,
        "max_num_seqs": 16,
    },
}
LOCAL = {"backend": "local", "model": str(PACKAGED_MODEL), "slots": 6}


@pytest.fixture(scope="module", autouse=True)
def served(ray_cluster: None) -> Iterator[None]:
    from ray import serve

    yield
    serve.shutdown()


def monitored(
    folder: Path, tasks: int, **teacher: Any
) -> tuple[list[Trajectory], dict[str, float]]:
    """Episodes of a student that drifts, and the teacher's counts."""
    from step_ray.recipes.teachers import teacher_of

    teacher = {"type": "llm", "attempts": 2, "max_tokens": 64, **teacher}
    config = parse_config({"output": str(folder), "teacher": teacher}).teacher
    settings = WorkerSettings(
        env="alfworld",
        env_options=OPTIONS,
        students={"student": "-"},
        sampling=Sampling(0.7, 1.0, 16),
        deadlines=Deadlines(),
        filter=Filter(max_errors=30),
    )
    games = make_env("alfworld", **OPTIONS).tasks("train")[:tasks]
    with teacher_of(config, "alfworld", folder) as handle:
        asked = make_teacher(config, "alfworld", folder)
        assert (handle.fingerprint, handle.prompt_version) == (
            asked.fingerprint,
            asked.prompt_version,
        )
        worker = EpisodeWorker(settings, lambda path: drifting(CHORES), handle)
        try:
            identity = {"teacher": handle.fingerprint, "prompt_version": handle.prompt_version}
            rows = worker.run_block([spec_of(task, max_steps=3, **identity) for task in games])
        finally:
            worker.close()
    return [from_row(row) for row in rows], handle.counts()


def check(trajectories: list[Trajectory], counts: dict[str, float], tasks: int) -> None:
    """Nonsense, but counted and typed."""
    assert len(trajectories) == tasks
    for one in trajectories:
        assert one.outcome in get_args(Outcome)
        for turn in one.turns:
            assert (turn.verdict == "error") <= (turn.review is not None)
            assert turn.author in ("student", "teacher")
    assert counts["asked"] >= tasks
    spoiled = [one for one in trajectories if one.outcome == "teacher_error"]
    assert counts.get("unusable replies", 0) >= 2 * len(spoiled)


def test_a_local_model_reviews(tmp_path: Path) -> None:
    made, counts = monitored(tmp_path, 2, model=LOCAL, constrain=False)
    check(made, counts, 2)


@pytest.mark.vllm
def test_a_vllm_model_reviews_in_json(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    adapter = make_adapter(tmp_path / "adapter")
    made, counts = monitored(
        tmp_path / "run", 6, model={**VLLM, "adapter": str(adapter)}, cache=False
    )
    check(made, counts, 6)
    # Nonsense goes on until it is cut, in JSON of the schema's types as far as it went.
    assert counts["unusable cut"] == counts["unusable replies"]
    assert counts["of them cached"] > 0.5 * counts["prompt tokens"]


def test_the_fingerprint_is_that_of_the_folder_with_its_adapter(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    adapter = make_adapter(tmp_path / "adapter")
    raw: dict[str, Any] = {"output": "x", "teacher": {"type": "llm", "model": dict(VLLM)}}

    def named() -> tuple[str, str]:
        made: Any = make_teacher(parse_config(raw).teacher, "alfworld", tmp_path)
        return made.fingerprint, made.model.fingerprint

    plain = named()
    assert plain[1] == model_fingerprint(PACKAGED_MODEL)
    raw["teacher"]["model"]["adapter"] = str(adapter)
    adapted = named()
    assert adapted[1] == model_fingerprint(PACKAGED_MODEL, adapter)
    assert len({*plain, *adapted}) == 4
    settings = adapter / "adapter_config.json"
    settings.write_text(settings.read_text().replace('"lora_alpha": 8', '"lora_alpha": 16'))
    assert named() != adapted, "how strong an adapter is decides what the model says"


def test_local_refuses_schemas_in_the_config() -> None:
    from step_ray.config import ConfigError

    with pytest.raises(ConfigError, match=r"teacher\.constrain: local models cannot"):
        parse_config({"output": "x", "teacher": {"type": "llm", "model": LOCAL}})


def test_the_same_adapter_in_process(tmp_path: Path) -> None:
    """`local` merges an adapter, and says something else with it."""
    pytest.importorskip("peft")
    from step_ray.models.base import ModelError
    from step_ray.models.local import LocalModel

    adapter = make_adapter(tmp_path / "adapter")
    chat = [{"role": "user", "content": "You are in a room."}]

    def said(**options: Any) -> str:
        with LocalModel(PACKAGED_MODEL, slots=1, max_length=256, **options) as model:
            return asyncio.run(model.chat(chat, Sampling(max_tokens=12))).text

    assert said() != said(adapter=adapter)
    with pytest.raises(ModelError, match="holds no"):
        said(adapter=tmp_path)


@pytest.mark.parametrize("weights", ["acting", "original"])
def test_a_student_teaches_itself(tmp_path: Path, weights: str) -> None:
    from step_ray.recipes.teachers import teacher_for

    teacher = {"type": "self", "weights": weights, "constrain": False}
    config = parse_config({"output": str(tmp_path / "run"), "teacher": teacher})
    agent = Path(shutil.copytree(PACKAGED_MODEL, tmp_path / "model"))
    (agent / "generation_config.json").write_text("{}")
    asked = teacher_for(config, agent, PACKAGED_MODEL)
    made: Any = make_teacher(asked, "alfworld", tmp_path)
    own = agent if weights == "acting" else PACKAGED_MODEL
    assert made.model.fingerprint == model_fingerprint(own)
    assert model_fingerprint(agent) != model_fingerprint(PACKAGED_MODEL)
    plain = parse_config({"output": "x"})
    assert teacher_for(plain, agent, PACKAGED_MODEL) is plain.teacher


def test_a_teacher_in_an_engine_that_runs_already(tmp_path: Path) -> None:
    from step_ray.recipes.teachers import teacher_model

    raw: dict[str, Any] = {"output": "x", "teacher": {"type": "llm", "model": dict(VLLM)}}
    with teacher_model(parse_config(raw).teacher, tmp_path, lambda folder: folder) as model:
        assert model == str(PACKAGED_MODEL), "nothing is started"
