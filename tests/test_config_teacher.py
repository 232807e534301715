"""The section ``teacher``: an expert by default, or a language model; no key is ever shown."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from step_ray.config import ConfigError, RunConfig, execution_fields, parse_config
from step_ray.config_teacher import ExpertTeacherConfig, LLMTeacherConfig, SelfTeacherConfig
from step_ray.teacher.base import TeacherError
from step_ray.teacher.cache import CachedModel
from step_ray.teacher.expert import ExpertTeacher
from step_ray.teacher.llm import LLMTeacher
from step_ray.teacher.make import make_teacher

MODEL = {"base_url": "http://host:8000/v1", "model": "teacher-72b"}
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("step_ray.config_checks.usable_cpus", lambda: 4)


def parsed(**teacher: Any) -> RunConfig:
    return parse_config({"output": "runs/x", "teacher": teacher} if teacher else {"output": "x"})


def llm(**fields: Any) -> RunConfig:
    model = {**MODEL, **fields.pop("model", {})}
    return parsed(type="llm", model=model, **fields)


def problems(**teacher: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config({"output": "runs/x", "teacher": teacher})
    for problem in caught.value.problems:
        assert re.fullmatch(r"\S.*: .+ -> .+", problem), problem
    return caught.value.problems


def test_the_expert_is_the_default() -> None:
    for config in (parsed(), parsed(style="brief"), parsed(type="expert")):
        assert isinstance(config.teacher, ExpertTeacherConfig)
        assert config.resolved()["teacher"] == {"type": "expert", "style": "brief"}
        assert config.identity()["teacher"] == {"type": "expert", "style": "brief"}
    assert isinstance(make_teacher(config.teacher, "alfworld", Path("runs/x")), ExpertTeacher)


def test_a_language_model() -> None:
    config = llm(model={"price": {"prompt": 1, "completion": 2}, "extra": {"top_k": 1}})
    assert isinstance(config.teacher, LLMTeacherConfig)
    assert parse_config(config.resolved()) == config
    identity = config.identity()["teacher"]
    assert identity["model"] == {
        "backend": "remote",
        "model": "teacher-72b",
        "revision": "",
        "extra": {"top_k": 1},
    }
    assert "prompts" not in identity, "their version is what counts"
    assert {"teacher.model.base_url", "teacher.cache"} <= set(execution_fields())


def test_what_it_becomes() -> None:
    made = make_teacher(llm(calls="one", privileged=True).teacher, "webshop", Path("runs/x"))
    assert isinstance(made, LLMTeacher)
    assert (made.calls, made.privileged, made.sampling.max_tokens) == ("one", True, 600)
    assert made.prompt_version.startswith("webshop-")
    assert isinstance(made.model, CachedModel)
    assert made.model.folder == Path("runs/x/cache")
    assert not Path("runs").exists(), "nothing is opened before it is needed"
    again = pickle.loads(pickle.dumps(made))
    assert again.fingerprint == made.fingerprint
    elsewhere = make_teacher(
        llm(
            calls="one", privileged=True, cache_folder="/tmp/c", model={"base_url": "https://b/v1"}
        ).teacher,
        "webshop",
        Path("runs/y"),
    )
    assert elsewhere.fingerprint == made.fingerprint
    plain = make_teacher(llm(cache=False).teacher, "alfworld", Path("runs/x"))
    assert isinstance(plain, LLMTeacher)
    assert not isinstance(plain.model, CachedModel)


def test_prompts_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(TeacherError, match="no file"):
        make_teacher(llm(prompts=str(tmp_path / "mine")).teacher, "alfworld", tmp_path)
    (tmp_path / "mine" / "default.md").write_text("Well.")
    one = make_teacher(llm(prompts=str(tmp_path / "mine")).teacher, "other", tmp_path)
    assert one.prompt_version != make_teacher(llm().teacher, "other", tmp_path).prompt_version


def test_everything_wrong_at_once() -> None:
    found = problems(
        type="llm",
        model={**MODEL, "deadline": 5000, "timeout": 0, "concurrency": True},
        calls="three",
        prompts="nowhere",
        cache=False,
        cache_folder="x",
        styel="brief",
    )
    assert {line.split(":")[0] for line in found} == {
        "teacher.model.deadline",
        "teacher.model.timeout",
        "teacher.model.concurrency",
        "teacher.calls",
        "teacher.prompts",
        "teacher.cache_folder",
        "teacher.styel",
    }
    assert any("did you mean teacher.style" in line for line in found)


def test_what_is_needed_and_wrong_hides_nothing_else() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(
            {
                "output": "x",
                "teacher": {"type": "llm", "model": {**MODEL, "base_url": "host"}},
                "student": {"max_tokens": 9000},
                "synthesis": {"workers": 0},
            }
        )
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "teacher.model.base_url",
        "synthesis.workers",
        "student.max_tokens",
    ]


def test_what_is_missing_or_unknown() -> None:
    assert [line.split(":")[0] for line in problems(type="llm")] == ["teacher.model"]
    assert "llm: a language model" in problems(type="gpt")[0]
    assert problems(type="expert", model=MODEL)[0].startswith("teacher.model: unknown field")


@pytest.mark.parametrize(
    "model",
    [
        {"key_env": KEY},
        {"key": KEY},
        {"api_key": KEY},
        {"base_url": f"http://user:{KEY}@host/v1"},
        {"base_url": f"http://host/v1?key={KEY}"},
        {"base_url": f"http://[{KEY}/v1"},
    ],
    ids=range(6),
)
def test_a_key_in_the_config_is_refused_and_not_repeated(model: dict[str, str]) -> None:
    found = problems(type="llm", model={**MODEL, **model})
    assert len(found) == 1
    assert "secret" not in found[0]


def test_the_student_is_its_own_teacher() -> None:
    config = parsed(type="self", constrain=False, calls="one", attempts=5)
    assert isinstance(config.teacher, SelfTeacherConfig)
    assert config.teacher.weights == "acting"
    assert parse_config(config.resolved()) == config
    made = config.teacher.of(config.student.served("somewhere"))
    assert isinstance(made, LLMTeacherConfig)
    assert (made.calls, made.attempts, made.constrain) == ("one", 5, False)
    assert (made.model.backend, made.model.model) == ("local", "somewhere")
    vllm = {"backend": "vllm", "model": "m-7b", "slots": 7}
    raw = {"output": "x", "teacher": {"type": "self"}, "student": vllm}
    config = parse_config(raw, planning=True)
    assert isinstance(config.teacher, SelfTeacherConfig)
    model = config.teacher.of(config.student.served("elsewhere")).model
    assert (model.backend, model.engine["max_num_seqs"]) == ("vllm", 7)


def test_what_a_student_cannot_do_as_a_teacher() -> None:
    found = problems(type="self", max_tokens=4096, cache=False, cache_folder="x", model=MODEL)
    heads = [line.split(" -> ")[0] for line in found]
    assert sorted(heads) == [
        "teacher.cache_folder: does nothing, as teacher.cache is false",
        "teacher.constrain: local models cannot be made to follow a schema (true)",
        "teacher.max_tokens: leaves no room in the student's context (4096 >= 4096)",
        "teacher.model: unknown field",
    ]
    (line,) = problems(type="self")
    assert line.endswith("set teacher.constrain to false, or student.backend to vllm")
    with pytest.raises(ConfigError, match=r"teacher.type: does nothing with recipe eto \(self\)"):
        parse_config(
            {"output": "x", "recipe": "eto", "teacher": {"type": "self", "constrain": False}}
        )
