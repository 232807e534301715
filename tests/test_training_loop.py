"""The training loop: the same curve however it is run, interrupted, cut up or dealt out."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import weakref
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from step_ray.config_training import LoraConfig, TrainConfig  # noqa: E402
from step_ray.models import tiny  # noqa: E402
from step_ray.models.base import ModelError  # noqa: E402
from step_ray.models.load import load_model, load_tokenizer  # noqa: E402
from step_ray.patience import Patience  # noqa: E402
from step_ray.publication import publish  # noqa: E402
from step_ray.schema import to_row  # noqa: E402
from step_ray.training import checkpoint, passes, steps  # noqa: E402
from step_ray.training.alone import CHECKPOINTS, FileReport, train_alone  # noqa: E402
from step_ray.training.checkpoint import MetricsFile, TrainError, read_metrics  # noqa: E402
from step_ray.training.loop import uneven  # noqa: E402
from step_ray.training.masks import tokenize  # noqa: E402
from step_ray.training.steps import learning_rate  # noqa: E402
from step_ray.trajectory import Trajectory, Turn  # noqa: E402

SETTINGS = {
    "epochs": 2,
    "tokens_per_batch": 600,
    "micro_tokens": 400,
    "learning_rate": 3e-3,
    "precision": "fp32",
    "workers": 1,
    "save_every_steps": 5,
    "seed": 7,
}


HELD = {"validation_fraction": 0.25, "validate_every_steps": 3, "keep": "best"}


def config(**changes) -> TrainConfig:
    return TrainConfig(**{**SETTINGS, **changes})


def episode(number: int) -> Trajectory:
    error = Turn(
        "Perhaps there.", f"go to shelf {99 - number}", "Nothing happens.", verdict="error"
    )
    turns = tuple(
        Turn(f"I go on, {i}.", f"go to shelf {number + i}", f"You see a mug {i}.")
        for i in range(1 + number % 4)
    )
    end = Turn("That was wrong.", f"take mug {number}", "Done.", verdict="correction")
    return Trajectory(
        f"{number:032x}", "t", "env", "train", "", "Find it.", f"Room {number}.",
        (*turns, error, end), 1.0, True, "success",
    )  # fmt: skip


EPISODES = [episode(number) for number in range(36)]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A model of two layers."""
    texts = [turn.thought + turn.action for one in EPISODES for turn in one.turns]
    tokenizer = tiny.make_tokenizer(texts, vocab_size=320)
    model = tiny.make_llama(tokenizer, hidden=64, layers=2, heads=2, intermediate=96)
    return tiny.save(model, tokenizer, tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def reference(start, tmp_path_factory):
    """One process, never interrupted: the metrics and the model that all others must give."""
    output = tmp_path_factory.mktemp("reference")
    result = train_alone(start, EPISODES, output, config())
    return read_metrics(output / "metrics.jsonl"), result


def curve(metrics):
    return {line["step"]: line["loss"] for line in metrics}


def weights(folder):
    return load_model(folder).state_dict()


def same(folder, other, **tolerance):
    theirs = weights(other)
    for name, tensor in weights(folder).items():
        torch.testing.assert_close(tensor, theirs[name], **(tolerance or {"rtol": 0, "atol": 0}))


class PowerError(RuntimeError):
    """The power has gone."""


def interrupt(monkeypatch, step):
    """Ends the next training at the beginning of a step."""

    def off(settings, now, total):
        if now == step:
            raise PowerError
        return learning_rate(settings, now, total)

    monkeypatch.setattr(steps, "learning_rate", off)


# --- one process ---


def test_it_learns_and_says_so(start, reference):
    metrics, result = reference
    assert [line["step"] for line in metrics] == list(range(1, metrics[0]["steps"] + 1))
    assert len(metrics) > 12
    assert metrics[-1]["loss"] < 0.6 * metrics[0]["loss"]
    assert {"loss_correct", "loss_correction", "loss_error"} <= metrics[0].keys()
    assert all(line["tokens_per_second"] > line["trained_tokens_per_second"] for line in metrics)
    assert result.metrics == metrics[-1]
    assert result.facts["samples"] == len(EPISODES)
    load_tokenizer(result.model)
    assert not (result.model / checkpoint.STATE).exists()
    assert not (result.model.parent / CHECKPOINTS).exists()


def test_the_loss_is_the_mean_over_trained_tokens(start, reference, tmp_path):
    everything = sum(len(tokenize(one, load_tokenizer(start)).input_ids) for one in EPISODES)
    train_alone(start, EPISODES, tmp_path, config(epochs=1, tokens_per_batch=everything))
    (line,) = read_metrics(tmp_path / "metrics.jsonl")
    model, tokenizer = load_model(start), load_tokenizer(start)
    total, count = 0.0, 0
    for one in EPISODES:
        sample = tokenize(one, tokenizer)
        ids = torch.tensor([sample.input_ids])
        chosen = torch.tensor(sample.loss_weights) > 0
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        total += float(each[chosen[1:]].sum())
        count += int(chosen.sum())
    assert line["loss"] == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"micro_tokens": 130},
        {"micro_tokens": 10_000},
        {"packing": "padded"},
        {"packing": "padded", "micro_tokens": 130},
        {"share_prompts": False},
        {"micro_tokens": 150, "gradient_checkpointing": True},
    ],
)
def test_forward_passes_do_not_matter(start, reference, tmp_path, monkeypatch, changes):
    monkeypatch.setattr(passes, "_WORTH_SHARING", 4)  # prompts are short here
    train_alone(start, EPISODES, tmp_path, config(**changes))
    got = curve(read_metrics(tmp_path / "metrics.jsonl"))
    assert got == pytest.approx(curve(reference[0]), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_compiled_layers_draw_the_same_curve(start, reference, tmp_path, packing):
    result = train_alone(start, EPISODES, tmp_path, config(compile=True, packing=packing))
    got = curve(read_metrics(tmp_path / "metrics.jsonl"))
    assert got == pytest.approx(curve(reference[0]), rel=1e-4)
    assert sorted(weights(result.model)) == sorted(weights(reference[1].model))


@pytest.mark.parametrize("step", [3, 6, 11])
def test_it_goes_on_exactly_where_it_was(start, reference, tmp_path, monkeypatch, step):
    interrupt(monkeypatch, step)
    with pytest.raises(PowerError):
        train_alone(start, EPISODES, tmp_path, config())
    saved = sorted(path.name for path in (tmp_path / CHECKPOINTS).glob("*"))
    assert saved == [f"step-{step // 5 * 5:08d}"][: step // 5]  # only the newest is kept
    monkeypatch.undo()
    result = train_alone(start, EPISODES, tmp_path, config())
    metrics = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in metrics] == list(range(1, len(reference[0]) + 1))
    assert curve(metrics) == curve(reference[0])
    same(result.model, reference[1].model)


def test_the_moments_that_were_read_are_let_go(start, tmp_path, monkeypatch):
    """With the model they are on the device; a second copy would stay in the host's memory."""
    interrupt(monkeypatch, 6)
    with pytest.raises(PowerError):
        train_alone(start, EPISODES, tmp_path, config())
    monkeypatch.undo()
    read, alive = [], []

    def reading(*given, **named):
        state = checkpoint.read_state(*given, **named)
        moments = state["optimizer"]["state"].values()
        read.extend(weakref.ref(each["exp_avg"]) for each in moments)
        return state

    def rate(settings, now, total):
        alive.append(sum(one() is not None for one in read))
        return learning_rate(settings, now, total)

    monkeypatch.setattr(steps, "read_state", reading)
    monkeypatch.setattr(steps, "learning_rate", rate)
    train_alone(start, EPISODES, tmp_path, config())
    assert read
    assert not any(alive)


def test_a_mapped_state_is_the_state_that_was_kept(start, tmp_path, monkeypatch):
    interrupt(monkeypatch, 6)
    with pytest.raises(PowerError):
        train_alone(start, EPISODES, tmp_path, config())
    (saved,) = (tmp_path / CHECKPOINTS).iterdir()
    fingerprint = torch.load(saved / checkpoint.STATE, weights_only=True)["fingerprint"]
    plain, mapped = (checkpoint.read_state(saved, fingerprint, mapped) for mapped in (False, True))
    (saved / checkpoint.STATE).unlink()  # a later checkpoint has taken its place
    theirs, ours = plain.pop("optimizer"), mapped.pop("optimizer")
    torch.testing.assert_close(ours["state"], theirs["state"], rtol=0, atol=0)
    assert ours["param_groups"] == theirs["param_groups"]
    assert mapped == plain


def test_a_finished_training_is_not_done_again(start, reference, monkeypatch):
    interrupt(monkeypatch, 1)
    output = reference[1].model.parent
    again = train_alone(start, EPISODES, output, config(log_every_steps=3))
    assert again == reference[1]
    with pytest.raises(TrainError, match=r"something else.*remove it"):
        train_alone(start, EPISODES, output, config(learning_rate=1e-3))
    with pytest.raises(TrainError, match="something else"):
        train_alone(start, EPISODES[1:], output, config())


def test_another_trainings_checkpoint_is_refused(start, tmp_path, monkeypatch):
    interrupt(monkeypatch, 6)
    with pytest.raises(PowerError):
        train_alone(start, EPISODES, tmp_path, config())
    with pytest.raises(TrainError, match="another training"):
        train_alone(start, EPISODES, tmp_path, config(seed=8))


def test_adapters(start, tmp_path, monkeypatch):
    pytest.importorskip("peft")
    lora = LoraConfig(r=4, alpha=8, dropout=0.1, targets=("q_proj", "v_proj"))
    settings = config(epochs=1, lora=lora, save_every_steps=2, learning_rate=1e-2)
    whole = train_alone(start, EPISODES, tmp_path / "whole", settings)
    interrupt(monkeypatch, 4)
    with pytest.raises(PowerError):
        train_alone(start, EPISODES, tmp_path / "parts", settings)
    monkeypatch.undo()
    parts = train_alone(start, EPISODES, tmp_path / "parts", settings)
    metrics = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts")]
    assert curve(metrics[0]) == curve(metrics[1])
    same(parts.model, whole.model)
    assert not (whole.model / "adapter_config.json").exists()
    before, after = weights(start), weights(whole.model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) == 4
    assert all("q_proj" in name or "v_proj" in name for name in changed)


def test_wrong_targets_are_named(start, tmp_path):
    pytest.importorskip("peft")
    with pytest.raises(TrainError, match=r"lora\.targets.*nowhere"):
        train_alone(start, EPISODES, tmp_path, config(lora=LoraConfig(targets=("nowhere",))))


def test_the_models_type_is_kept(start, tmp_path):
    half = tiny.save(load_model(start), load_tokenizer(start), tmp_path / "half", "bfloat16")
    result = train_alone(half, EPISODES[:8], tmp_path / "out", config(epochs=1))
    assert json.loads((result.model / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("precision", "packing", "near"),
    [("bf16", "padded", 0.03), ("bf16", "packed", 0.03), ("bf16_weights", "packed", 0.15)],
)
def test_bf16_is_close(start, reference, tmp_path, precision, packing, near):
    train_alone(start, EPISODES, tmp_path, config(precision=precision, packing=packing))
    got = curve(read_metrics(tmp_path / "metrics.jsonl"))
    assert got == pytest.approx(curve(reference[0]), rel=near)


def test_bf16_weights_are_half_the_checkpoint(start, tmp_path, monkeypatch):
    interrupt(monkeypatch, 6)
    sizes = {}
    for precision in ("bf16", "bf16_weights"):
        with pytest.raises(PowerError):
            train_alone(start, EPISODES, tmp_path / precision, config(precision=precision))
        (saved,) = (tmp_path / precision / CHECKPOINTS).iterdir()
        sizes[precision] = [
            (saved / name).stat().st_size for name in ("model.safetensors", checkpoint.STATE)
        ]
    for whole, half in zip(*sizes.values(), strict=True):
        assert half == pytest.approx(whole / 2, rel=0.1)


@pytest.mark.parametrize("normalize", ["turn", "trajectory"])
def test_normalize(start, reference, tmp_path, normalize):
    train_alone(start, EPISODES, tmp_path, config(epochs=1, normalize=normalize))
    got = read_metrics(tmp_path / "metrics.jsonl")
    assert got[0]["loss"] == pytest.approx(reference[0][0]["loss"], rel=0.05)
    assert got[0]["loss"] != reference[0][0]["loss"]


def test_what_was_chosen_is_recorded(start, tmp_path):
    """auto pads where samples in a row cannot be kept apart; told to pack, it refuses."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    tokenizer = load_tokenizer(start)
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    settings = Gemma2Config(vocab_size=len(tokenizer), **shape, **heads)
    gemma = tiny.save(Gemma2ForCausalLM(settings), tokenizer, tmp_path / "gemma")
    many = {"epochs": 1, "micro_tokens": 8192}
    for number, (model, expected) in enumerate(((start, "packed"), (gemma, "padded"))):
        result = train_alone(model, EPISODES[:8], tmp_path / str(number), config(**many))
        assert json.loads((result.model / "training.json").read_text())["packing"] == expected
    with pytest.raises(TrainError, match=r"Gemma2.*set training.packing to padded"):
        train_alone(gemma, EPISODES, tmp_path / "out", config(packing="packed"))


def test_a_loss_that_is_no_number_ends_it(start, tmp_path):
    model = load_model(start)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    broken = tiny.save(model, load_tokenizer(start), tmp_path / "broken")
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        train_alone(broken, EPISODES, tmp_path / "out", config())


def test_nothing_to_train_on(start, tmp_path):
    with pytest.raises(TrainError, match=r"nothing can be trained on.*36 do not fit 16 tokens"):
        train_alone(start, EPISODES, tmp_path, config(max_length=16))
    with pytest.raises(ModelError, match="not a model folder"):
        train_alone(tmp_path, EPISODES, tmp_path / "out", config())


def test_learning_rate():
    settings = config(learning_rate=1.0, warmup_fraction=0.1, final_fraction=0.1)
    rates = [learning_rate(settings, step, 100) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert rates[9] == max(rates)
    assert all(a > b for a, b in itertools.pairwise(rates[9:]))
    assert rates[-1] == pytest.approx(0.1)
    assert learning_rate(config(warmup_fraction=0.0), 1, 1) > 0


def test_a_constant_rate():
    settings = config(learning_rate=1.0, warmup_fraction=0.1, schedule="constant")
    rates = [learning_rate(settings, step, 50) for step in range(1, 51)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(rates[5:]) == {1.0}


def test_half_a_line_of_metrics_is_no_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n{"step": 3, "lo')
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
    MetricsFile(path, 1).append({"step": 2, "loss": 1.0})
    assert curve(read_metrics(path)) == {1: 2.0, 2: 1.0}


def test_a_full_disk_leaves_no_half_checkpoint(tmp_path):
    report = FileReport(tmp_path, config(), "name")

    def write(folder):
        (folder / "weights").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        report.checkpoint({"step": 5}, write, final=False)
    assert report.latest() is None
    assert list((tmp_path / CHECKPOINTS).iterdir()) == []


def test_progress_is_shown(start, tmp_path):
    shown = []

    class Bar:
        def set(self, completed=None, total=None, **values):
            shown.append((completed, total, values))

        def note(self, text):
            shown.append(text)

    train_alone(start, EPISODES[:8], tmp_path, config(epochs=1), Bar())
    assert shown[0][0] == 0
    assert shown[-1][0] == shown[0][1]
    assert shown[-1][2].keys() == {"loss", "tokens/s", "trained/s", "GB"}  # of a CPU, no peak
    assert all(value > 0 for value in shown[-1][2].values())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tokens_per_batch": 100}, "1.0 samples for 2 workers, so they take 2.0 times"),
        ({"tokens_per_batch": 800}, ""),
        ({"samples_per_batch": 1}, "raise training.samples_per_batch, or take fewer"),
        ({"samples_per_batch": 4}, ""),
        ({"tokens_per_batch": 100, "workers": 1}, ""),
        ({"loss": "dpo", "tokens_per_batch": 200, "normalize": "token"}, "1.0 samples"),
    ],
)
def test_workers_that_wait_for_each_other_are_named(settings, said):
    asked = TrainConfig(workers=2).model_copy(update=settings)
    found = uneven([90, 100] * 20, asked)
    assert said in found
    assert bool(said) == bool(found)


@pytest.mark.parametrize("every", [3, 7])
def test_a_line_of_metrics_spans_an_interruption(start, tmp_path, monkeypatch, every):
    """The mean since the last line, whatever was saved and lost between."""
    settings = config(log_every_steps=every)
    train_alone(start, EPISODES, tmp_path / "whole", settings)
    interrupt(monkeypatch, 9)
    with pytest.raises(PowerError):
        train_alone(start, EPISODES, tmp_path / "parts", settings)
    monkeypatch.undo()
    train_alone(start, EPISODES, tmp_path / "parts", settings)
    whole, parts = (read_metrics(tmp_path / n / "metrics.jsonl") for n in ("whole", "parts"))
    names = {name for name in whole[0] if name.startswith("loss")} | {"step", "fill_rate"}
    assert len(names) == 6
    for line, other in zip(whole, parts, strict=True):
        assert {n: line[n] for n in names} == pytest.approx({n: other[n] for n in names}, rel=1e-12)


# --- many processes ---


def published(folder):
    """The episodes as a dataset, and the settings as a file."""
    publish(folder / "data", [to_row(one, {}, "") for one in EPISODES])
    settings = config().model_dump(mode="json", exclude_defaults=True)
    (folder / "training.yaml").write_text(json.dumps(settings))  # JSON is YAML
    return [str(folder / "data"), "--config", str(folder / "training.yaml")]


def command(*arguments, launcher=("-m", "step_ray.cli")):
    return subprocess.run(
        [sys.executable, *launcher, "train", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_the_command(start, reference, tmp_path):
    output = tmp_path / "out"
    given = (start, *published(tmp_path), "--output", output)
    done = command(*given, "--alone")
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"Model: {output / 'model'}" in done.stdout
    assert "loss_error" in done.stdout
    assert "36 samples of" in done.stdout
    assert "left out" not in done.stdout
    assert curve(read_metrics(output / "metrics.jsonl")) == curve(reference[0])
    wrong = command(*given, "--alone", "--set", "epochs=0", "--set", "parallel=zero")
    assert wrong.returncode == 2
    assert "2 problems" in wrong.stderr
    other = command(*given, "--alone", "--set", "seed=8")
    assert other.returncode == 2
    assert "something else" in other.stderr


@pytest.mark.slow
@pytest.mark.ray
def test_torchrun_and_ray_draw_one_curve(start, reference, tmp_path):
    """The same command by torchrun in two processes, and by Ray with two workers."""
    given = (start, *published(tmp_path), "--set", "workers=2", "--output")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    for name, launcher in (
        ("torchrun", (*torchrun, "-m", "step_ray.cli")),
        ("ray", ("-m", "step_ray.cli")),
    ):
        done = command(*given, tmp_path / name, launcher=launcher)
        assert done.returncode == 0, done.stderr[-2000:]
    curves = [curve(read_metrics(tmp_path / n / "metrics.jsonl")) for n in ("torchrun", "ray")]
    assert curves[0] == pytest.approx(curves[1], rel=1e-6)
    assert curves[0] == pytest.approx(curve(reference[0]), rel=1e-5)


def dying(folder, kills):
    """What a worker runs, but that the process of rank ``kills[step]`` gets SIGKILL at that step,
    once; all leave there what they saw of each step, the last attempt's over those before."""

    def work(settings):  # local, so that it travels to the workers by value
        import os
        import signal

        import torch

        from step_ray.training import loop, passes, steps

        rate, make, now = steps.learning_rate, passes.Passes._make, {}

        def deadly(given, step, total):
            rank = torch.distributed.get_rank()
            now["file"] = folder / f"seen-{step}-{rank}"
            now["file"].write_text("")
            mark = folder / f"killed-{step}"
            if kills.get(step) == rank and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return rate(given, step, total)

        def seen(self, units):
            one = make(self, units)
            with now["file"].open("a") as file:
                file.write("".join(f"{sample} " for sample in one.samples))
            return one

        steps.learning_rate, passes.Passes._make = deadly, seen
        loop._work(settings)

    return work


def seen_in_epochs(folder, metrics):
    """The samples of each epoch, over all of its steps and workers."""
    epochs = {}
    for line in metrics:
        for path in folder.glob(f"seen-{line['step']}-*"):
            epochs.setdefault(line["epoch"], []).extend(map(int, path.read_text().split()))
    return [sorted(samples) for _, samples in sorted(epochs.items())]


@pytest.mark.ray
@pytest.mark.slow
def test_killed_workers_and_a_killed_run(ray_cluster, start, reference, tmp_path, monkeypatch):
    """Two workers draw the curve of one, through two kills and a second start of the run, and see
    every sample once an epoch."""
    from step_ray.training import loop

    monkeypatch.setattr(loop, "_work", dying(tmp_path, {8: 1, 12: 0}))
    output = tmp_path / "out"
    with pytest.raises(TrainError, match="Run it again to go on"):
        loop.train(start, EPISODES, output, config(workers=2, max_failures=0))
    assert (tmp_path / "killed-8").exists()
    first = read_metrics(output / "metrics.jsonl")
    assert first[-1]["step"] == 7
    result = loop.train(start, EPISODES, output, config(workers=2, max_failures=1))
    assert (tmp_path / "killed-12").exists()
    metrics = read_metrics(output / "metrics.jsonl")
    assert (
        metrics[:5] == first[:5]
    )  # even in their seconds, so they were not done again: it went on from step 5
    assert curve(metrics) == pytest.approx(curve(reference[0]), rel=1e-5)
    assert seen_in_epochs(tmp_path, metrics) == [list(range(len(EPISODES)))] * 2
    same(result.model, reference[1].model, rtol=1e-3, atol=1e-4)
    assert sorted(path.name for path in output.iterdir()) == [
        "metrics.jsonl",
        "model",
        "samples.parquet",
        "tensorboard",
    ]
    assert loop.train(start, EPISODES, output, config()) == result  # done: no worker starts


@pytest.mark.ray
@pytest.mark.slow
def test_shared_weights_and_the_best_model_on_ray(ray_cluster, start, tmp_path, monkeypatch):
    from step_ray.training import loop

    left = []

    def publish(source, target):
        left.extend(path.name for path in source.parent.glob("checkpoint_0*"))
        checkpoint.publish(source, target)

    monkeypatch.setattr(loop, "publish", publish)
    settings = {**HELD, "save_every_steps": 4, "num_to_keep": 2}
    alone = train_alone(start, EPISODES, tmp_path / "alone", config(**settings))
    shared = config(**settings, parallel="fsdp", workers=2)
    result = loop.train(start, EPISODES, tmp_path / "out", shared)
    metrics = read_metrics(tmp_path / "out" / "metrics.jsonl")
    expected = read_metrics(tmp_path / "alone" / "metrics.jsonl")
    assert curve(metrics) == pytest.approx(curve(expected), rel=1e-4)
    assert result.metrics["step"] == alone.metrics["step"]
    same(result.model, alone.model, rtol=1e-2, atol=1e-2)
    assert len(left) == 1  # beside the final one
    assert not (tmp_path / "out" / CHECKPOINTS).exists()


@pytest.mark.ray
def test_more_workers_than_there_can_be(ray_cluster, start, tmp_path):
    from step_ray.training import loop

    with pytest.raises(TrainError, match=r"needs 64 CPUs.*lower training\.workers"):
        loop.train(start, EPISODES, tmp_path, config(workers=64))


@pytest.mark.parametrize("placed", [True, False])
def test_room_for_workers_is_waited_for_and_given_up(monkeypatch, placed):
    from step_ray.training import loop

    now, said, held = [0.0], [], []

    class Group:
        def __init__(self, bundles, strategy):
            assert bundles == [{"CPU": 1, "GPU": 1.0}] * 2
            held.append(self)

        def wait(self, seconds):
            now[0] += seconds
            return placed and now[0] > 20

    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop, "placement_group", Group)
    monkeypatch.setattr(loop, "remove_placement_group", held.remove)
    monkeypatch.setattr(loop.ray, "available_resources", lambda: {"CPU": 8.0})
    settings = config(workers=4, min_workers=2, use_gpu=True)
    patience = Patience(60, said.append)
    if placed:
        loop._wait_for_room(settings, patience)
    else:
        with pytest.raises(TrainError, match=r"1 GPUs each found no room .* 60 s.*wait_seconds"):
            loop._wait_for_room(settings, patience)
    assert len(said) == 1
    assert "8 CPUs and 0 GPUs" in said[0]
    assert held == [], "what was asked for is given back"


@pytest.mark.ray
@pytest.mark.slow
def test_what_fails_for_ever_is_not_tried_again(ray_cluster, start, tmp_path):
    from step_ray.training import loop

    settings = config(lora=LoraConfig(targets=("nowhere",)), max_failures=5)
    with pytest.raises(TrainError, match=r"lora\.targets.*nowhere"):
        loop.train(start, EPISODES, tmp_path, settings)
