"""Preference pairs: what is summed, and DPO's loss and gradients."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from test_training_loop import (  # noqa: E402
    CHECKPOINTS,
    EPISODES,
    PowerError,
    config,
    curve,
    interrupt,
    same,
    start,  # noqa: F401 - a fixture
)
from torch.nn import functional  # noqa: E402

from step_ray.config_training import LoraConfig, TrainConfig  # noqa: E402
from step_ray.models.load import load_model, load_tokenizer  # noqa: E402
from step_ray.training.alone import train_alone  # noqa: E402
from step_ray.training.checkpoint import read_metrics  # noqa: E402
from step_ray.training.errors import TrainError  # noqa: E402
from step_ray.training.losses import PreferenceLoss  # noqa: E402
from step_ray.training.masks import Counts, Weighted, decode_spans, tokenize  # noqa: E402
from step_ray.training.packing import enable_packing  # noqa: E402
from step_ray.training.preferences import Pair, tokenize_pairs  # noqa: E402
from step_ray.training.table import from_samples  # noqa: E402
from step_ray.trajectory import Turn  # noqa: E402


def worse(episode, number, shared=0):
    """Another way on after ``shared`` turns, that leads nowhere."""
    turns = tuple(
        Turn("Perhaps.", f"go to shelf {number + i}", "Nothing.") for i in range(2 + number % 3)
    )
    return dataclasses.replace(
        episode,
        id=episode.id[::-1],
        turns=episode.turns[:shared] + turns,
        reward=0.0,
        success=False,
        outcome="step_limit",
    )


PAIRS = [Pair(one, worse(one, number)) for number, one in enumerate(EPISODES)]


def dpo(**changes):
    settings = {"loss": "dpo", "epochs": 2, "learning_rate": 1e-3, "tokens_per_batch": 2000}
    return config(**{**settings, "save_every_steps": 2, **changes})


# --- pairs ---


def test_sums_are_over_agent_tokens_after_the_prompt(start):  # noqa: F811
    tokenizer = load_tokenizer(start)
    episode = EPISODES[3]
    counts = Counts()
    for shared in (0, 2):
        pair = Pair(episode, worse(episode, 3, shared), shared)
        chosen, rejected = tokenize_pairs([pair], tokenizer, "none", counts=counts)
        assert chosen.id == rejected.id == pair.id
        assert [span.turn for span in chosen.spans] == list(range(shared, len(episode.turns)))
        for sample, whole in ((chosen, pair.chosen), (rejected, pair.rejected)):
            said = "".join(decode_spans(sample, tokenizer))
            assert said.count("Action:") == len(whole.turns) - shared
            assert "Observation" not in said
            inside = {i for span in sample.spans for i in range(span.start, span.end)}
            assert {i for i, weight in enumerate(sample.loss_weights) if weight} == inside
            assert sample.input_ids == tokenize(whole, tokenizer, "none").input_ids
    assert counts.samples == 4


def test_errors_in_the_chosen_one_are_masked_and_in_the_rejected_one_count(start):  # noqa: F811
    tokenizer = load_tokenizer(start)
    one, other = EPISODES[0], dataclasses.replace(EPISODES[4], instruction="Find it.")
    other = dataclasses.replace(other, initial_observation=one.initial_observation)
    chosen, rejected = tokenize_pairs([Pair(one, other)], tokenizer)
    assert "error" not in {span.verdict for span in chosen.spans}
    assert "error" in {span.verdict for span in rejected.spans}


def test_a_pair_has_one_prompt_and_goes_as_a_whole(start):  # noqa: F811
    with pytest.raises(ValueError, match="two prompts"):
        Pair(EPISODES[0], EPISODES[1])
    with pytest.raises(ValueError, match="two prompts"):
        Pair(EPISODES[0], worse(EPISODES[0], 0), 1)
    counts = Counts()
    short = Pair(EPISODES[0], worse(EPISODES[0], 2))
    lengths = [len(s.input_ids) for s in tokenize_pairs([short], load_tokenizer(start))]
    kept = list(
        tokenize_pairs(
            PAIRS[:6], load_tokenizer(start), "partial", min(lengths), counts, overlong="drop"
        )
    )
    assert len(kept) % 2 == 0
    assert counts.too_long > 0
    assert len(kept) // 2 + counts.too_long == 6
    ids = [sample.id for sample in kept]
    assert ids[0::2] == ids[1::2]


def test_data_of_another_loss_is_refused(start, tmp_path):  # noqa: F811
    weighted = [Weighted(one, (1.0,) * len(one.turns)) for one in EPISODES]
    for data, settings, name in (
        (EPISODES, dpo(), "Trajectory"),
        (PAIRS, config(), "Pair"),
        (weighted, config(), "Weighted"),
        (PAIRS, config(loss="reward_weighted"), "Pair"),
    ):
        with pytest.raises(TrainError, match=f"there is a {name} in the data"):
            train_alone(start, data, tmp_path, settings)
    odd = from_samples([tokenize(one, load_tokenizer(start)) for one in EPISODES[:3]])
    with pytest.raises(TrainError, match="3 is odd"):
        train_alone(start, odd, tmp_path, dpo())


# --- the loss ---


def naive(model, reference, samples, beta):
    """The definition, sample by sample, over all logits; the mean over pairs."""

    def sums(of):
        out = []
        for sample in samples:
            ids = torch.tensor([sample.input_ids])
            logits = of(input_ids=ids).logits[0, :-1]
            said = functional.log_softmax(logits, -1).gather(1, ids[0, 1:, None])[:, 0]
            out.append((said * torch.tensor(sample.loss_weights)[1:]).double().sum())
        return torch.stack(out)

    with torch.no_grad():
        before = sums(reference)
    ratios = sums(model) - before
    return -functional.logsigmoid(beta * (ratios[0::2] - ratios[1::2])).mean()


def moved(start):  # noqa: F811
    """The starting model after some training: policy and reference differ."""
    model = load_model(start)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
    return model


def ours(model, reference, samples, beta, packed):
    table, prefix = from_samples(samples), 0
    if packed:
        prefix = table.prefix(range(len(samples))) if packed == "shared" else 0
        assert (prefix > 0) == (packed == "shared")
        ids, weights, _, lengths = table.packed(range(len(samples)), prefix=prefix)
        lengths = torch.from_numpy(lengths)
    else:
        (ids, weights, _), lengths = table.padded(range(len(samples))), None
    ids, weights = torch.from_numpy(ids), torch.from_numpy(weights)
    for one in (model, reference):
        if packed:
            enable_packing(one)
    with torch.no_grad():
        before = PreferenceLoss(reference, beta).sums(ids, weights, lengths, len(samples), prefix)
    loss, _, _ = PreferenceLoss(model, beta)(ids, weights, lengths, before, prefix)
    return loss / (len(samples) // 2)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("packed", [False, True, "shared"])
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_loss_and_gradients_are_the_definitions(start, packed, beta):  # noqa: F811
    samples = list(tokenize_pairs(PAIRS[:5], load_tokenizer(start)))
    one, other = moved(start), moved(start)
    expected = naive(one, load_model(start), samples, beta)
    found = ours(other, load_model(start), samples, beta, packed)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    expected.backward()
    found.backward()
    wanted = gradients(one)
    for name, gradient in gradients(other).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-5)


def test_loss_and_gradients_are_trls(start, tmp_path):  # noqa: F811
    trl = pytest.importorskip("trl", reason="trl is not installed: pip install trl==1.16.0")
    datasets = pytest.importorskip("datasets")
    tokenizer = load_tokenizer(start)
    samples = list(tokenize_pairs(PAIRS[:6], tokenizer))
    say = [{"role": "user", "content": "a"}]
    row = {"prompt": say, "chosen": [{"role": "assistant", "content": "b"}]}
    trainer = trl.DPOTrainer(
        model=moved(start),
        ref_model=load_model(start),
        args=trl.DPOConfig(
            output_dir=str(tmp_path), beta=0.1, use_cpu=True, bf16=False, report_to="none",
            gradient_checkpointing=False,
        ),
        train_dataset=datasets.Dataset.from_list([{**row, "rejected": row["chosen"]}]),
        processing_class=tokenizer,
    )  # fmt: skip
    # Their batch is [chosen, rejected]; their mask is given ours, as theirs would sum over
    # observations as well.
    table = from_samples(samples)
    order = [*range(0, len(samples), 2), *range(1, len(samples), 2)]
    ids, weights, _ = table.padded(order)
    lengths = [table.lengths[i] for i in order]
    there = torch.arange(ids.shape[1])[None] < torch.tensor(lengths)[:, None]
    batch = {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": there.long(),
        "completion_mask": torch.from_numpy(weights).long(),
    }
    trainer.model.eval()
    theirs = trainer.compute_loss(trainer.model, batch)
    theirs.backward()
    model = moved(start)
    mine = ours(model, load_model(start), samples, 0.1, packed=True)
    mine.backward()
    torch.testing.assert_close(mine.float(), theirs, rtol=1e-4, atol=1e-4)
    wanted = gradients(trainer.model)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-4)


# --- training ---


@pytest.fixture(scope="module")
def reference(start, tmp_path_factory):  # noqa: F811
    output = tmp_path_factory.mktemp("dpo")
    result = train_alone(start, PAIRS, output, dpo())
    return read_metrics(output / "metrics.jsonl"), result


def test_it_prefers_what_was_chosen(reference):
    metrics, result = reference
    assert metrics[0]["loss"] == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-5)
    assert metrics[-1]["loss"] < 0.9 * metrics[0]["loss"]
    assert metrics[-1]["accuracy"] > 0.9
    assert metrics[-1]["margin"] == pytest.approx(
        metrics[-1]["reward_chosen"] - metrics[-1]["reward_rejected"]
    )
    assert result.facts["samples"] == 2 * len(PAIRS)


@pytest.mark.parametrize("changes", [{"packing": "packed"}, {"micro_tokens": 5000}])
def test_forward_passes_do_not_matter(start, reference, tmp_path, changes):  # noqa: F811
    train_alone(start, PAIRS, tmp_path, dpo(**changes))
    got = curve(read_metrics(tmp_path / "metrics.jsonl"))
    assert got == pytest.approx(curve(reference[0]), rel=1e-4)


def test_the_reference_stays_the_starting_model(start, reference, tmp_path, monkeypatch):  # noqa: F811
    interrupt(monkeypatch, 4)
    with pytest.raises(PowerError):
        train_alone(start, PAIRS, tmp_path, dpo())
    assert [p.name for p in (tmp_path / CHECKPOINTS).glob("*")] == ["step-00000002"]
    monkeypatch.undo()
    result = train_alone(start, PAIRS, tmp_path, dpo())
    assert curve(read_metrics(tmp_path / "metrics.jsonl")) == curve(reference[0])
    same(result.model, reference[1].model)


def test_adapters_begin_at_the_reference(start, tmp_path):  # noqa: F811
    pytest.importorskip("peft")
    train_alone(start, PAIRS, tmp_path, dpo(lora=LoraConfig(r=4), learning_rate=1e-2))
    metrics = read_metrics(tmp_path / "metrics.jsonl")
    assert metrics[0]["loss"] == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-5)
    assert metrics[-1]["loss"] < metrics[0]["loss"]


def test_reference_free(start, reference, tmp_path):  # noqa: F811
    train_alone(start, PAIRS, tmp_path, dpo(dpo_reference_free=True, epochs=1))
    (first, *_) = read_metrics(tmp_path / "metrics.jsonl")
    assert first["loss"] != pytest.approx(reference[0][0]["loss"], rel=1e-2)


def test_rewards_weigh_the_cross_entropy(start, tmp_path):  # noqa: F811
    """A trajectory with twice the reward counts twice; one with none is not there."""
    some = EPISODES[:6]
    rewarded = [
        dataclasses.replace(one, reward=r) for one, r in zip(some, (1, 0.5) * 3, strict=True)
    ]
    nothing = [dataclasses.replace(one, reward=0.0) for one in EPISODES[6:9]]
    weighted = [
        Weighted(one, (2.0 if number % 2 == 0 else 1.0,) * len(one.turns))
        for number, one in enumerate(some)
    ]
    settings = config(loss="reward_weighted", epochs=1, tokens_per_batch=100_000)
    found = []
    for number, data in enumerate((rewarded + nothing, weighted)):
        result = train_alone(start, data, tmp_path / str(number), settings)
        found.append(read_metrics(tmp_path / str(number) / "metrics.jsonl")[0]["loss"])
        assert result.facts["worthless"] == (3 if number == 0 else 0)
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    plain = train_alone(start, some, tmp_path / "plain", config(epochs=1, tokens_per_batch=100_000))
    assert found[0] != pytest.approx(plain.metrics["loss"], rel=1e-5)


def test_etos_setting(start, tmp_path):  # noqa: F811
    """ETO (arXiv 2403.02502): beta 0.1, rate 1e-6 constant after a warm-up of 0.1, 3 epochs of 32
    pairs, 4,096 tokens; from the second iteration on beta 0.5 and rate 5e-7."""
    first = TrainConfig(
        loss="dpo",
        dpo_beta=0.1,
        learning_rate=1e-6,
        schedule="constant",
        warmup_fraction=0.1,
        epochs=3,
        samples_per_batch=32,
        max_length=4096,
        workers=1,
        trackers=(),
        normalize="token",
        mask="none",
    )
    later = first.model_copy(update={"dpo_beta": 0.5, "learning_rate": 5e-7})
    for name, settings, peak in (("first", first, 1e-6), ("later", later, 5e-7)):
        train_alone(start, PAIRS * 2, tmp_path / name, settings)
        metrics = read_metrics(tmp_path / name / "metrics.jsonl")
        assert len(metrics) == 9  # 72 pairs are 32 + 32 + 8, three times
        assert [line["lr"] for line in metrics] == pytest.approx([peak] * 9)
        assert metrics[0]["loss"] == pytest.approx(0.6931, abs=1e-3)  # log 2: nothing is preferred
        first_reward = metrics[1]["reward_chosen"]
        assert first_reward != 0
