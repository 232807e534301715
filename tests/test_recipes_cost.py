"""The configs of the paper's scale are planned and costed where neither model nor data is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from step_ray.config import ConfigError, load_config, parse_config
from step_ray.envs.base import Task
from step_ray.recipes.cost import Cost, as_text, estimate, size_of
from step_ray.recipes.lengths import Lengths, lengths
from step_ray.recipes.plan import plan
from step_ray.recipes.world import PACKAGED_MODEL, World, open_world

DOCS = Path(__file__).parents[1] / "docs"
TRAINED = {"alfworld": 3119, "scienceworld": 1483, "webshop": 1802}
FOLDER = Path(__file__).parents[1] / "jobs" / "configs"
CONFIGS = sorted(FOLDER.glob("*_llama2_7b.yaml"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


KIND = "look_at_obj_in_light"


def world(tasks: int, held_out: int = 10) -> World:
    def some(split: str, count: int) -> tuple[Task, ...]:
        return tuple(Task(str(n), "alfworld", split, KIND) for n in range(count))

    return World("alfworld", {}, some("train", tasks), {"valid_seen": some("s", held_out)}, "")


def of_short_tasks(max_steps: int = 40) -> Lengths:
    return lengths(parse_config({"output": "runs/x"}).env, world(1).train, max_steps, 40, 4096)


def cost(recipe: str, tasks: int = 100, **more: object) -> Cost:
    raw = {"output": "runs/x", "recipe": recipe, "student": {"model": "m-7b"}, **more}
    return estimate(parse_config(raw, planning=True), world(tasks))


def test_there_are_three() -> None:
    assert [path.name.split("_")[0] for path in CONFIGS] == ["alfworld", "scienceworld", "webshop"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("recipe", ["step", "eto", "steca"])
def test_paper_scale(path: Path, recipe: str) -> None:
    with pytest.raises(ConfigError, match="not a Hugging Face folder"):
        load_config(path)
    changes = [] if recipe == "step" else [
        f"recipe={recipe}",
        "student.temperature=0.7",
        "synthesis.max_errors=2",
        "synthesis.abort_errors=6",
    ]  # fmt: skip
    if recipe == "eto":
        changes += ["teacher={type: expert}", "synthesis.min_reward=1.0"]
    config = load_config(path, changes, planning=True)
    said = plan(config)
    assert "Llama-2-7b-chat-hf (NOT THERE YET)" in said
    assert "NOTE         NOT THERE YET: env.data: no such folder" in said
    assert "NOTE         the numbers of tasks are those published" in said
    assert f"golden       {TRAINED[config.env.name]} tasks of {config.env.name}, played" in said
    assert "GPU hours    about" in said
    assert "assumed" in said
    assert "training.learning_rate: " not in said
    assert config.training.learning_rate == 2e-5
    assert 0 < config.training.save_every_steps <= 25, "ScienceWorld's base agent has 35 steps"
    assert config.evaluation.max_steps == {"a": 40, "s": 120, "w": 10}[config.env.name[0]]
    assert config.golden.max_steps >= config.env.max_steps == config.evaluation.max_steps


@pytest.mark.parametrize("path", sorted(FOLDER.glob("quickstart*.yaml")), ids=lambda p: p.stem)
def test_the_quickstarts_are_of_a_size_for_cpus(path: Path) -> None:
    if "scienceworld" in path.stem:
        pytest.importorskip("scienceworld", reason="pip install 'step-ray[scienceworld]'")
    config = load_config(path)
    assert f"\n{config.recipe}" in plan(config), "the student of its recipe"
    assert (estimate(config, open_world(config)).cpu_hours or 99) < 1.5


def test_what_is_planned_is_what_is_trained_on(tmp_path: Path) -> None:
    """With the data there, the number of training tasks is that of the config or of its lists."""
    alfworld, scienceworld, webshop = (load_config(path, planning=True).env for path in CONFIGS)
    assert alfworld.train_tasks == TRAINED["alfworld"]
    assert set(scienceworld.folders()) == {"data"}, "ETO's lists"
    assert set(webshop.folders()) == {"data", "lists"}

    def trained(env: dict[str, object], **folders: Path) -> str:
        raw = {"output": "x", "env": {**env, **{field: str(at) for field, at in folders.items()}}}
        return plan(parse_config(raw, planning=True)).splitlines()[0].split()[1]

    away = tmp_path / "away"
    shop = {"name": "webshop", "goals": "human"}
    assert trained(shop, data=away) == "10587"
    assert trained(shop, data=away, lists=tmp_path) == "1802"
    assert trained(shop, data=tmp_path, lists=away) == "1802"
    assert trained({"name": "webshop"}, data=away) == "5410"
    assert trained({}, data=away) == "3554"
    assert trained({"train_tasks": 100}, data=away) == "100"


def test_sizes_of_models() -> None:
    assert size_of("/models/Llama-2-7b-chat-hf") == 7e9
    assert size_of("Qwen/Qwen2.5-72B-Instruct") == 72e9
    assert size_of("Qwen/Qwen2.5-0.5B") == 0.5e9
    assert size_of("my-model") is None
    assert 1e6 < (size_of(PACKAGED_MODEL) or 0) < 3e6, "by its weights"


def test_costs_grow_with_what_is_done() -> None:
    found = of_short_tasks()
    golden, watched = found.tokens(found.golden), found.tokens(1.5 * found.golden)

    once, twice = cost("step"), cost("step", 200)
    assert twice.trained == pytest.approx(2 * once.trained, abs=1)
    assert once.teacher_said == 0, "the expert has no tokens"
    assert twice.gpu_hours > once.gpu_hours > 0  # type: ignore[operator]
    # 50 golden for the base, 50 and 25 reflected for STeP, all 100; 3 epochs
    assert once.trained == round((200 * golden + 25 * watched) * 3)
    # Then 25 tasks of which nothing was kept: half of them, 12.5, are kept; or all 50 again
    again = cost("step", step={"rounds": 2})
    assert again.trained == round((250 * golden + (25 + 25 + 12.5) * watched) * 3)
    everything = cost("step", step={"rounds": 2, "revisit": "all"})
    assert everything.trained == round((250 * golden + (25 + 50) * watched) * 3)

    one, three = (cost("eto", eto={"iterations": number}) for number in (1, 3))
    assert three.read > one.read
    pair = golden + found.tokens(40)
    assert three.trained - one.trained == pytest.approx(2 * 50 * pair * 3, abs=1)
    cut = cost("eto", eto={"iterations": 1, "extra_turns": 5})
    longer = found.tokens(40) - found.tokens(found.golden + 5)
    assert one.trained - cut.trained == pytest.approx(50 * longer * 3, abs=1)

    few, many = (cost("steca", steca={"samples": number}) for number in (1, 5))
    assert many.read > few.read
    assert many.trained == few.trained
    states = 100 * found.golden
    more = 0.5 * 4 * states * found.tokens(found.unaided)
    assert many.read - few.read == pytest.approx(more, abs=1), "half as many states have a value"


def test_unaided_episodes_have_the_evaluations_limit() -> None:
    short, long = (cost("step", evaluation={"max_steps": turns}) for turns in (20, 40))
    assert short.trained == long.trained
    few, many = (of_short_tasks(turns) for turns in (20, 40))
    more = many.tokens(many.unaided) - few.tokens(few.unaided)
    assert long.read - short.read == pytest.approx(3 * 10 * more, abs=1), "three students"


def test_each_of_several_worlds_has_its_own_lengths() -> None:
    raw = {"output": "runs/x", "student": {"model": "m-7b"}, "transfer": {"webshop": {"tasks": 7}}}
    config = parse_config(raw, planning=True)
    shop = tuple(Task(str(n), "webshop", "test", "garden") for n in range(7))
    there = World("webshop", {}, (), {"test": shop}, "")
    alone, both = world(100), replace(world(100), transfer={"webshop": there})
    found = lengths(config.transfer["webshop"].env, shop, 40, 40, 4096)
    more = estimate(config, both).read - estimate(config, alone).read
    assert more == pytest.approx(3 * 7 * found.tokens(found.unaided), abs=1)


def test_a_reviewed_turn_is_the_students() -> None:
    teacher = {"type": "self"}
    raw = {"student": {"backend": "vllm", "model": "m-7b"}, "teacher": teacher}
    found = cost("step", **raw)
    # 50 episodes of 5.9 turns, a correction for every two of them
    assert found.teacher_said == round(50 * (5.9 + 2 * 5.9 / 2) * 120)
    few = cost("step", **raw, synthesis={"max_errors": 1, "abort_errors": 1})
    assert few.teacher_said == round(50 * (5.9 + 2) * 120)


def test_dpo_reads_its_pairs_once_more_for_the_reference() -> None:
    found = cost("eto", eto={"iterations": 1})
    short = of_short_tasks()
    pairs = 50 * (short.tokens(short.golden) + short.tokens(40))
    work = 7e9 * ((6 * found.trained + 2 * (found.read + pairs)) / 0.4 + 2 * found.said / 0.05)
    assert found.gpu_hours == pytest.approx(work / 312e12 / 3600)


def test_disk() -> None:
    found = cost("step")
    assert found.disk_gb == pytest.approx(3 * 7 * 2, rel=0.01), "three models in half precision"
    assert found.checkpoints_gb == pytest.approx(7 * 2)
    often = cost("step", training={"save_every_steps": 1})
    assert often.checkpoints_gb == pytest.approx(7 * 2 * 12)
    assert "disk         about 42.0 GB, and up to 168.0 GB more" in "\n".join(as_text(often))


@pytest.mark.parametrize(
    ("name", "kinds", "max_steps", "epochs", "errors", "tested", "measured"),
    [  # a seed of jobs/configs/compare_scienceworld.yaml and of compare.yaml
        (
            "scienceworld",
            ["lifespan-longest-lived"] * 124 + ["find-non-living-thing"] * 150,
            *(15, 4, 3, 60),
            (2_480_000, 378_000, 122_000),
        ),
        (
            "alfworld",
            ["pick_and_place_simple"] * 250 + ["look_at_obj_in_light"] * 250,
            *(30, 5, 5, 100),
            (3_170_000, 504_000, 273_000),
        ),
    ],
    ids=["scienceworld", "alfworld"],
)
def test_estimates_are_near_what_was_measured(
    name: str,
    kinds: list[str],
    max_steps: int,
    epochs: int,
    errors: int,
    tested: int,
    measured: tuple[int, int, int],
) -> None:
    raw = {
        "output": "runs/x",
        "env": {"name": name, "max_steps": max_steps},
        "student": {"temperature": 0},
        "synthesis": {"max_errors": errors, "abort_errors": errors},
        "training": {"epochs": epochs},
        "evaluation": {"max_steps": max_steps},
    }
    train = tuple(Task(str(n), name, "train", kind) for n, kind in enumerate(kinds))
    held_out = {"valid_seen": train[:: len(train) // tested][:tested]}
    found = estimate(parse_config(raw), World(name, {}, train, held_out, ""))
    for value, actual in zip((found.trained, found.read, found.said), measured, strict=True):
        assert actual / 1.25 < value < actual * 1.25


def test_cpu_hours_are_those_of_a_measured_training_by_size_and_tokens() -> None:
    tiny = {"model": "tiny"}
    found = cost("step", student=tiny)
    pace = 1600 * 1_747_968  # of the step student of a seed of compare.yaml
    size = size_of(PACKAGED_MODEL) or 0
    # Forward passes are a third of a training's work; those of replies are an eighth as fast.
    read, said = found.read / 3, 8 * found.said / 3
    assert found.cpu_hours == pytest.approx((found.trained + read + said) * size / pace / 3600)
    assert "CPU hours    about 0." in "\n".join(as_text(found))

    on_gpus = cost("step", training={"use_gpu": True})
    assert on_gpus.cpu_hours is None
    assert "CPU hours" not in "\n".join(as_text(on_gpus))
    assert (cost("step", student={"model": "m-7b"}).cpu_hours or 0) > 1000 * found.cpu_hours
