"""Students of a run that share one engine as adapters of one model."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from adapters import make_adapter

pytest.importorskip("torch")

from step_ray.config import ConfigError, parse_config
from step_ray.models.base import ModelError, Sampling
from step_ray.models.fingerprint import model_fingerprint
from step_ray.models.make import PACKAGED_MODEL
from step_ray.recipes.students import common_base, students_of


def folders(root: Path, bases: dict[str, str | None]) -> list[Path]:
    """Folders of trained models: name -> the model that their adapter is of."""
    made = []
    for name, base in bases.items():
        folder = root / name
        (folder / "adapter").mkdir(parents=True)
        if base is not None:
            settings = {"base_model_name_or_path": base, "r": 4}
            (folder / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
        made.append(folder)
    return made


def test_the_model_they_have_in_common(tmp_path: Path) -> None:
    base = str(PACKAGED_MODEL)
    models = folders(tmp_path, {"base": base, "step": base})
    found, adapters = common_base([PACKAGED_MODEL, *models])
    assert found == PACKAGED_MODEL
    assert adapters == {str(one): str(one / "adapter") for one in models}


def test_a_training_with_lora_leaves_its_adapter_beside_the_merged_model(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from step_ray.models.load import load_model, load_tokenizer
    from step_ray.training.checkpoint import merge_adapter, write_final

    trained = peft.PeftModel.from_pretrained(
        load_model(PACKAGED_MODEL, "float32"), make_adapter(tmp_path / "made")
    )
    student, tokenizer = tmp_path / "student", load_tokenizer(PACKAGED_MODEL)
    student.mkdir()
    write_final(student, trained, tokenizer, PACKAGED_MODEL, {})
    base, adapters = common_base([student])
    assert base == PACKAGED_MODEL
    merge_adapter(base, Path(adapters[str(student)]), tmp_path / "again")
    assert model_fingerprint(tmp_path / "again") == model_fingerprint(student)
    assert model_fingerprint(student) != model_fingerprint(PACKAGED_MODEL)


@pytest.mark.parametrize(
    ("bases", "said"),
    [
        ({"a": str(PACKAGED_MODEL), "b": "elsewhere"}, "no common model"),
        ({"a": "gone"}, "no common model"),
        ({"a": None}, "none has an adapter"),
        ({"a": str(PACKAGED_MODEL), "b": None}, "b is no adapter of"),
    ],
)
def test_students_that_have_none(tmp_path: Path, bases: dict[str, str | None], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        common_base(folders(tmp_path, bases))


@pytest.mark.parametrize("training", [{}, {"lora": {"r": 4}, "sequential": True}])
def test_a_config_that_cannot_share(training: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"student\.share_engine: the students are no adapters"):
        parse_config(
            {
                "output": "x",
                "student": {"backend": "vllm", "share_engine": True},
                "training": training,
            }
        )


@pytest.mark.vllm
@pytest.mark.ray
def test_one_engine_for_all(ray_cluster: None, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from ray import serve

    models = []
    for seed, name in enumerate(("base", "step")):
        make_adapter(tmp_path / name / "adapter", seed)
        settings = tmp_path / name / "adapter" / "adapter_config.json"
        found = json.loads(settings.read_text())
        settings.write_text(json.dumps({**found, "base_model_name_or_path": str(PACKAGED_MODEL)}))
        weights = PACKAGED_MODEL / "model.safetensors"
        (tmp_path / name / "model.safetensors").write_bytes(weights.read_bytes())
        models.append(tmp_path / name)
    student = {
        "backend": "vllm",
        "share_engine": True,
        "slots": 8,
        "context": 512,
        "engine": {"enforce_eager": True},
    }
    config = parse_config({"output": "x", "student": student, "training": {"lora": {"r": 4}}})
    chat = [{"role": "user", "content": "You are in a room."}]
    with students_of(config.student, [PACKAGED_MODEL, *models], tmp_path) as load:
        assert len(serve.status().applications) == 1

        async def ask() -> list[str]:
            students = [load(str(one)) for one in (PACKAGED_MODEL, *models)]
            replies = (one.chat(chat, Sampling(max_tokens=16)) for one in students)
            return [reply.text for reply in await asyncio.gather(*replies)]

        assert len(set(asyncio.run(ask()))) == 3
    assert not serve.status().applications
    serve.shutdown()
