from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from step_ray import config_recipes, config_text, machine
from step_ray.config import (
    ConfigError,
    RunConfig,
    execution_fields,
    load_config,
    parse_config,
)
from step_ray.config_env import ENVIRONMENTS, WebShopConfig
from step_ray.envs.scienceworld import tasks as science_tasks
from step_ray.envs.webshop import goals, lists
from step_ray.models.make import PACKAGED_MODEL
from step_ray.run import Run, RunError

FOLDER = Path(__file__).parents[1] / "jobs" / "configs"
CONFIGS = sorted(set(FOLDER.glob("*.yaml")) - set(FOLDER.glob("compare*.yaml")))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in configs are relative to where one works; four CPUs, whatever the machine has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("step_ray.config_checks.usable_cpus", lambda: 4)


def problems(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config({"output": "runs/x", **raw})
    for problem in caught.value.problems:
        assert re.fullmatch(r"\S.*: .+ -> .+", problem), problem
        assert problem in str(caught.value)
    return caught.value.problems


# --- the configs in the repository


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_is_valid_and_opens_with_its_command(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    first = text.splitlines()[0]
    assert re.match(r"# (step-ray|ray job submit|make) ", first)
    assert f"jobs/configs/{path.name}" in first
    raw = yaml.safe_load(text)
    parse_config(raw, planning=True)  # the data and models of a cluster are not here


def test_there_is_a_quickstart() -> None:
    assert "quickstart.yaml" in [path.name for path in CONFIGS]


# --- what a config becomes


def test_a_relative_output_is_below_the_folder_of_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("output: runs/mine\n")
    monkeypatch.delenv("STEP_RAY_RUNS", raising=False)
    assert load_config(path).output == Path("runs/mine")
    monkeypatch.setenv("STEP_RAY_RUNS", str(tmp_path))
    assert load_config(path).output == tmp_path / "runs" / "mine"
    assert load_config(path, [f"output={tmp_path}/x"]).output == tmp_path / "x"


def test_so_are_other_folders_that_a_run_writes_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP_RAY_RUNS", str(tmp_path))
    path = tmp_path / "run.yaml"
    path.write_text("output: mine\nshare: stages\ntraining: {token_cache: ~/tokens}\n")
    config = load_config(path)
    assert config.share == tmp_path / "stages"
    assert config.training.token_cache == Path("~/tokens"), "absolute, once it is expanded"
    cache = load_config(path, ["training.token_cache=tokens"]).training.token_cache
    assert cache == tmp_path / "tokens"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEP_RAY_RUNS", "runs")
    assert load_config(path).output == tmp_path / "runs" / "mine"


@pytest.mark.parametrize("place", ["s3://bucket/x", "gs://bucket/x", "abfs://a@b.c/x"])
@pytest.mark.parametrize("field", ["output", "share", "training.token_cache"])
def test_no_address_becomes_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, place: str
) -> None:
    monkeypatch.setenv("STEP_RAY_RUNS", str(tmp_path))
    path = tmp_path / "run.yaml"
    path.write_text("output: mine\n")
    with pytest.raises(ConfigError, match=f"1 problem\n  {field}: a run writes to a file system"):
        load_config(path, [f"{field}={place}"])


def test_a_resolved_config_is_complete_and_gives_itself_again() -> None:
    config = parse_config({"output": "runs/x", "synthesis": {"deadlines": {"step": 5}}})
    resolved = config.resolved()
    assert parse_config(resolved) == config
    assert resolved["synthesis"]["deadlines"] == {
        "reset": 60.0,
        "step": 5.0,
        "student": 300.0,
        "review": 900.0,
        "close": 10.0,
        "episode": 3600.0,
    }
    assert resolved["env"]["generator_seed"] == 0
    for field, _ in config_text.fields_of(RunConfig, "", resolved):
        if field.startswith(
            ("training.lora.", "student.autoscale.", "transfer", *config_recipes.SECTIONS)
        ):
            continue  # what is not chosen has no fields
        value: Any = resolved
        for part in field.split("."):
            value = value[part]


def test_data_or_generated_games(tmp_path: Path) -> None:
    generated = parse_config({"output": "x", "env": {"games": {"train": 5}, "generator_seed": 3}})
    assert generated.env.options() == {
        "backend": "native",
        "types": None,
        "games": {"train": 5, "valid_seen": 20, "valid_unseen": 20},
        "seed": 3,
    }
    given = parse_config({"output": "x", "env": {"data": str(tmp_path), "backend": "stock"}})
    assert given.env.options() == {"backend": "stock", "types": None}
    assert parse_config(given.resolved()) == given
    found = problems({"env": {"data": str(tmp_path), "games": {}, "generator_seed": 1}})
    assert [line.split(":")[0] for line in found] == ["env.games", "env.generator_seed"]


def test_every_field_is_described() -> None:
    for field, info in config_text.fields_of(RunConfig):
        assert info.description, field


def test_execution_fields_exist_and_may_change(tmp_path: Path) -> None:
    fields = dict(config_text.fields_of(RunConfig))
    assert set(execution_fields()) <= fields.keys()
    one = parse_config({"output": "runs/x"})
    two = parse_config(
        {"output": "runs/x", "synthesis": {"workers": 3}, "training": {"log_every_steps": 7}}
    )
    three = parse_config({"output": "runs/x", "synthesis": {"max_errors": 1}})
    Run.open("runs/x", one.resolved(), ignore=execution_fields()).close()
    Run.open("runs/x", two.resolved(), ignore=execution_fields()).close()
    with pytest.raises(RunError, match=r"another config:\n  synthesis.max_errors: 2 -> 1\n"):
        Run.open("runs/x", three.resolved(), ignore=execution_fields())


def test_the_identity_is_what_and_not_how() -> None:
    raw = {"output": "a", "synthesis": {"workers": 3}, "ray": {"num_cpus": 8}, "seed": 4}
    one, two = parse_config(raw).identity(), parse_config({"output": "b", "seed": 4}).identity()
    assert one == two
    assert one["seed"] == 4
    assert "deadlines" not in one["synthesis"]
    assert one != parse_config({"output": "b", "teacher": {"style": "full"}}).identity()


def test_a_config_cannot_be_changed() -> None:
    config = parse_config({"output": "x"})
    with pytest.raises(ValueError, match="frozen"):
        config.synthesis.max_errors = 3  # type: ignore[misc]


# --- files and overrides


def test_overrides_are_yaml(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("output: runs/x\nevaluation: {tasks: 3}\ngolden:\n")
    config = load_config(
        path,
        [
            "training.learning_rate=1e-4",
            "evaluation.splits=[train]",
            "evaluation.tasks=null",
            "golden.fraction=0.25",
            "synthesis.deadlines.step=7",
        ],
    )
    assert config.training.learning_rate == 1e-4
    assert config.evaluation.splits == ("train",)
    assert config.evaluation.tasks is None
    assert config.golden.fraction == 0.25
    assert config.synthesis.deadlines.step == 7


def test_bad_overrides_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("output: runs/x\nseed: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["foo", "a..b=1", "seed.x=3", "name=[", "golden.fractoin=0.3"])
    text = str(caught.value)
    assert text.startswith(f"{path}: 5 problems\n")
    for part in ("foo: not an", "a..b=1: not an", "seed.x: seed is a value", "name: not valid"):
        assert part in text
    assert "golden.fractoin: unknown field (0.3) -> did you mean golden.fraction?" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("- 1", "not a mapping"),
        ("", "not a mapping"),
        ("seed: 1\nseed: 2", "seed is given twice"),
        ("a: !!python/object:os.system {}", "not valid YAML"),
        ("a: \x01", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "nothing.yaml")


# --- what is refused


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    found = problems(
        {
            "recipee": "step",
            "seed": True,
            "max_errors": 3,
            "env": {"games": {"train": 1}},
            "golden": {"fraction": 1.5},
            "student": {"temperature": 0, "model": "some/llama"},
            "teacher": "expert",
            "synthesis": {"max_errros": 3, "max_errors": 9, "rollouts": "two", "workers": 64},
            "training": {"mask": "partia", "epoch": 3, "lora": {"rank": 3}},
            "evaluation": {"splits": ["valid_seen", "valid_seen", "test"]},
        }
    )
    text = "\n".join(found)
    for expected in (
        "recipee: unknown field ('step') -> did you mean recipe?",
        "seed: should be a number (True) -> seed, >= 0, of the draw and halves of training tasks",
        "max_errors: unknown field (3) -> did you mean synthesis.max_errors?",
        "env.games.train: should be greater than or equal to 2 (1) -> ",
        "golden.fraction: should be less than 1 (1.5) -> ",
        "student.model: not a Hugging Face folder, it has no config.json (some/llama) -> ",
        "teacher: should be a section ('expert') -> give it fields: type, style",
        "synthesis.max_errros: unknown field (3) -> did you mean synthesis.max_errors?",
        "synthesis.max_errors: more than abort_errors, so episodes end before (9 > 6) -> ",
        "synthesis.rollouts: should be a valid integer",
        "training.mask: should be 'partial', 'none' or 'corrections_only' ('partia') -> ",
        "training.epoch: unknown field (3) -> did you mean training.epochs?",
        "training.lora.rank: unknown field (3) -> remove it; known here: r, ",
        "evaluation.splits: has an element twice",
    ):
        assert expected in text
    assert len(found) == 14  # and nothing is said twice, or because of another mistake


def test_other_names_of_splits_are_the_tasks_own() -> None:
    def splits(*names: str, env: Any = "scienceworld") -> tuple[str, ...]:
        config = parse_config({"output": "x", "env": env, "evaluation": {"splits": [*names]}})
        assert parse_config(config.resolved()) == config
        return config.evaluation.splits

    assert splits("dev", "test") == splits("valid_seen", "valid_unseen")
    assert splits("test", "train") == ("valid_unseen", "train")
    assert splits("dev", "test", env={"name": "webshop"}) == ("dev", "test"), "splits of its own"
    twice = {"env": "scienceworld", "evaluation": {"splits": ["valid_seen", "dev", "test"]}}
    assert problems(twice) == [
        "evaluation.splits: another name of valid_seen, which is there too (dev) -> name it once"
    ]
    (line,) = problems({"env": "scienceworld", "evaluation": {"splits": ["moon"]}})
    assert line.endswith("(moon) -> choose of train, valid_seen, valid_unseen, dev, test")
    (line,) = problems({"env": "scienceworld", "evaluation": {"splits": ["dev", "dev"]}})
    assert line.startswith("evaluation.splits: has an element twice")
    line = problems({"env": "scienceworld", "evaluation": {"splits": [["dev"], "test"]}})[0]
    assert line.startswith("evaluation.splits.0: should be a valid string")


def test_etos_lists_of_webshop(tmp_path: Path) -> None:
    shop = {"name": "webshop", "goals": "human", "lists": "."}
    made = parse_config({"output": "x", "env": shop})
    assert made.env.options()["lists"] == str(tmp_path), "wherever it is made"
    assert parse_config(made.resolved()) == made
    assert "lists" not in parse_config({"output": "x", "env": "webshop"}).env.options()
    assert problems({"env": {**shop, "lists": "nowhere"}}) == [
        "env.lists: no such folder (nowhere) -> check the path, or use null for the original's "
        "splits"
    ]
    parse_config({"output": "x", "env": {**shop, "lists": "nowhere"}}, planning=True)
    (line,) = problems({"env": {**shop, "goals": "synthetic"}})
    assert line.startswith("env.lists: counts human goals, and these are others (synthetic) -> ")
    (line,) = problems({"env": shop, "evaluation": {"splits": ["dev"]}})
    assert line.startswith("evaluation.splits: no such split (dev) -> choose of train, test")


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ConfigError, match="output: missing -> add it: the run's folder"):
        parse_config({"golden": {"fraction": 0.5}})


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"training": {"loss": "dpo"}}, "training.loss"),
        (
            {"training": {"loss": "reward_weighted", "turn_weights": "w.parquet"}},
            "training.turn_weights",
        ),
        ({"synthesis": {"max_errors": 3, "abort_errors": 2}}, "synthesis.max_errors"),
        ({"synthesis": {"rollouts": 2}, "student": {"temperature": 0}}, "synthesis.rollouts"),
        ({"evaluation": {"seeds": [1, 2]}}, "evaluation.seeds"),
        ({"evaluation": {"seeds": []}}, "evaluation.seeds"),
        ({"student": {"max_tokens": 4096}}, "student.max_tokens"),
        ({"student": {"temperature": float("nan")}}, "student.temperature"),
        ({"synthesis": {"deadlines": {"review": 4000}}}, "synthesis.deadlines.review"),
        ({"env": {"games": {"valid_seen": 0}}}, "evaluation.splits"),
        ({"env": {"data": "/no/such/folder"}}, "env.data"),
        ({"training": {"workers": 2, "threads_per_worker": 3}}, "training.workers"),
        (
            {"ray": {"num_cpus": 1}, "training": {"workers": 1}, "evaluation": {"workers": 0}},
            "evaluation.workers",
        ),
        ({"ray": {"address": "auto", "object_store_mb": 100}}, "ray.object_store_mb"),
        ({"ray": {"env_nodes": {"kind": "cpu"}}}, "ray.env_nodes"),
        (
            {"student": {"nodes": {"kind": "gpu"}}, "ray": {"address": "auto"}},
            "student.nodes: does nothing with backend local",
        ),
        (
            {"student": {"backend": "vllm", "nodes": {"kind": "gpu"}}},
            "student.nodes: a Ray that is started on this machine has no labels",
        ),
        (
            {
                "teacher": {
                    "type": "llm",
                    "model": {
                        "backend": "vllm",
                        "model": str(PACKAGED_MODEL),
                        "nodes": {"kind": "gpu"},
                    },
                }
            },
            "teacher.model.nodes",
        ),
        (
            {"student": {"slots": 32}, "synthesis": {"envs_per_worker": 40}},
            "student.slots: fewer than the 40 episodes that a worker interleaves",
        ),
        ({"golden": {"fraction": 0}}, "golden.fraction"),
        ({"golden": {"fraction": 1}}, "golden.fraction"),
        ({"synthesis": {"min_reward": 0}}, "synthesis.min_reward"),
        ({"recipe": "etto"}, "recipe"),
        ({"training": {"batch_size": 8}}, "training"),
        ({"training": {"mask": {"error": "much"}}}, "training.mask"),
    ],
)
def test_what_cannot_work_is_refused(raw: dict[str, Any], expected: str) -> None:
    assert problems(raw)[0].startswith(f"{expected}")


@pytest.mark.parametrize(
    "raw",
    [
        {"synthesis": {"workers": 3}},
        {"ray": {"num_cpus": 65}, "synthesis": {"workers": 64}},
        {"ray": {"address": "auto"}, "synthesis": {"workers": 1000}},
        {"ray": {"address": "auto", "env_nodes": {"kind": "cpu"}}},
        {"ray": {"address": "auto"}, "student": {"backend": "vllm", "nodes": {"kind": "gpu"}}},
        {"evaluation": {"seeds": [1, 2], "temperature": 0.5}},
        {"evaluation": {"splits": ["train"]}, "env": {"games": {"valid_seen": 0}}},
        {"synthesis": {"max_errors": 6}},
    ],
)
def test_what_can_work_is_not(raw: dict[str, Any]) -> None:
    parse_config({"output": "runs/x", **raw})


def test_the_output_must_be_a_place_to_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file" in problems({"output": str(tmp_path / "file")})[0]
    assert "is a file" in problems({"output": str(tmp_path / "file" / "below")})[0]
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "not writable" in problems({"output": str(tmp_path / "new" / "deep")})[0]
    assert not (tmp_path / "new").exists()


def test_a_model_folder_has_a_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    config = parse_config({"output": "x", "student": {"model": str(tmp_path)}})
    assert not config.student.tiny
    assert parse_config({"output": "x"}).student.tiny


def test_suggestions_need_some_likeness() -> None:
    (problem,) = problems({"golden": {"zzz": 1}})
    assert problem == (
        "golden.zzz: unknown field (1) -> remove it; known here: fraction, max_steps"
    )


def test_pruning_only_touches_what_is_there() -> None:
    raw = {"a": {"b": [1, 2]}}
    for location in (("x",), ("a", "x"), ("a", "b", 5), ("a", "b", 0, "c")):
        assert not config_text.prune(raw, location)
    assert raw == {"a": {"b": [1, 2]}}
    assert config_text.prune(raw, ("a", "b", 0))
    assert raw == {"a": {"b": [2]}}


def test_a_field_that_may_be_a_section_is_walked() -> None:
    class Inner(BaseModel):
        x: int = 0

    class Outer(BaseModel):
        inner: Inner | None = None

    assert [name for name, _ in config_text.fields_of(Outer)] == ["inner", "inner.x"]


def test_the_machine_is_described() -> None:
    found = machine.machine()
    assert found["cpus"] == machine.usable_cpus() >= 1
    assert found["processor"]
    assert machine.packages()["pyarrow"]


def test_each_environment_has_its_own_fields_and_splits(tmp_path: Path) -> None:
    shop = parse_config({"output": "x", "env": "webshop"})
    assert shop.env.options()["products"] == 1000
    assert shop.env.options()["page_size"] == 10, "the original's"
    assert shop.evaluation.splits == ("test",)
    science = parse_config({"output": "x", "env": {"name": "scienceworld", "variations": 2}})
    assert science.env.options()["variations"] == 2
    listed = {"name": "scienceworld", "variations": 2, "data": str(tmp_path)}
    (line,) = problems({"output": "x", "env": listed})
    assert "env.variations: does nothing, as env.data is given and so its lists name all" in line
    assert science.evaluation.splits == ("valid_seen", "valid_unseen")
    own = {"name": "package.module:Class", "arguments": {"size": 3}}
    assert parse_config({"output": "x", "env": own}).env.options() == {"size": 3}
    assert parse_config(shop.resolved()) == shop


@pytest.mark.parametrize(
    ("env", "evaluation", "said"),
    [
        ("webshop", {"splits": ["valid_seen"]}, "no such split (valid_seen) -> choose of train, d"),
        ({"name": "webshop", "prodcts": 3}, {}, "env.prodcts: unknown field (3) -> did you mean"),
        ({"name": "scienceworld", "backend": "x"}, {}, "env.backend: unknown field ('x') -> "),
        ({"name": "webshop", "data": ".", "products": 3}, {}, "env.products: does nothing, as env"),
        ("no name", {}, "env.name: no such environment (no name) -> choose of alfworld, "),
        ({"name": "no name:X"}, {}, "env.name: String should match pattern"),
        (3, {}, "env: should be a section (3)"),
    ],
)
def test_what_an_environment_does_not_have(env: Any, evaluation: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"output": "x", "env": env, "evaluation": evaluation})
    assert said in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("env", "in_processes"),
    [
        ({"name": "alfworld"}, False),
        ({"name": "alfworld", "backend": "stock"}, True),
        ({"name": "alfworld", "isolated": True}, True),
        ({"name": "scienceworld"}, False),
        ({"name": "webshop"}, False),
        ({"name": "package.module:World"}, True),
        ({"name": "package.module:World", "isolated": False}, False),
    ],
)
def test_engines_that_may_hang_have_processes_of_their_own(
    env: dict[str, Any], in_processes: bool
) -> None:
    config = parse_config({"output": "runs/x", "env": env})
    assert config.env.in_processes == in_processes
    assert "isolated" not in config.identity()["env"]


def test_a_memory_limit_needs_processes() -> None:
    config = {"output": "runs/x", "env": {"name": "webshop", "memory_mb": 500}}
    with pytest.raises(ConfigError, match=r"env\.memory_mb: does nothing.*env\.isolated"):
        parse_config(config)
    config["env"]["isolated"] = True  # type: ignore[index]
    assert parse_config(config).env.memory_mb == 500


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"output": "s3://bucket/run"}, "output: a run writes to a file system"),
        ({"publish": "bucket/run"}, "publish: bucket/run: not an address like"),
        ({"publish": "s3://me:word@bucket/x"}, "publish: an s3:// address with options or cred"),
    ],
)
def test_object_stores_are_for_copies(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"output": "x", **values})
    (problem,) = caught.value.problems
    assert problem.startswith(line)
    assert "word@" not in problem


def test_where_copies_go_is_no_part_of_a_run() -> None:
    config = parse_config({"output": "x", "publish": "s3://bucket/runs/x"})
    assert "publish" not in config.identity()
    assert "publish" in execution_fields()


def test_the_splits_of_the_config_are_those_of_the_environments() -> None:
    """The config loads no environment, so it has their names a second time."""
    science, shop = ENVIRONMENTS["scienceworld"], WebShopConfig
    assert science.SPLITS == science_tasks.SPLITS
    assert {name: science_tasks.split_name(name) for name in science.ALIASES} == science.ALIASES
    assert (shop.SPLITS, shop.LISTED) == (goals.SPLITS, lists.SPLITS)
