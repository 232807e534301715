"""What trainings can be given: trajectories, a published dataset, samples, a table."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from test_training_loop import EPISODES, config, start  # noqa: F401 - start is a fixture

from step_ray import store
from step_ray.models.load import load_tokenizer
from step_ray.publication import publish
from step_ray.schema import to_row
from step_ray.training import prepare as module
from step_ray.training import table
from step_ray.training.alone import train_alone
from step_ray.training.errors import TrainError
from step_ray.training.masks import Weighted, tokenize
from step_ray.training.prepare import SAMPLES, prepare


def test_all_kinds_of_data_are_one(start, tmp_path):  # noqa: F811
    folder = tmp_path / "dataset"
    publish(folder, [to_row(e, {}, "too_long" if i % 3 else "") for i, e in enumerate(EPISODES)])
    kept = list(store.read(folder))
    assert 0 < len(kept) < len(EPISODES)
    samples = [tokenize(trajectory, load_tokenizer(start)) for trajectory in kept]
    made = [
        prepare(start, data, tmp_path / str(number), config())
        for number, data in enumerate(
            (folder, [str(folder)], kept, iter(kept), samples, table.from_samples(samples))
        )
    ]
    assert len({one.fingerprint for one in made}) == 1
    assert {one.facts["samples"] for one in made} == {len(kept)}
    assert {one.facts["trained_tokens"] for one in made} == {made[0].facts["trained_tokens"]}
    for one in made:
        assert one.path.name == SAMPLES
        assert table.read(one.path).fingerprint == one.samples.fingerprint


def test_what_changes_the_model_changes_the_fingerprint(start, tmp_path):  # noqa: F811
    def fingerprint(data=EPISODES, **changes):
        return prepare(start, data, tmp_path, config(**changes)).fingerprint

    first = fingerprint()
    assert first == fingerprint(workers=7, micro_tokens=99, save_every_steps=0, num_to_keep=3)
    changed = [
        fingerprint(EPISODES[::-1]),
        fingerprint(seed=8),
        fingerprint(mask="none"),
        fingerprint(normalize="turn"),
        fingerprint(learning_rate=1e-4),
        fingerprint(max_length=130),
    ]
    assert len({first, *changed}) == 1 + len(changed)


def test_nothing_is_tokenised_twice(start, tmp_path, monkeypatch):  # noqa: F811
    """Neither by a training's next attempt nor, with a shared folder, by another training."""
    shared = config(token_cache=tmp_path / "tokens")
    first = prepare(start, EPISODES, tmp_path / "one", shared)
    alone = prepare(start, EPISODES, tmp_path / "two", config())
    assert len(list((tmp_path / "tokens").iterdir())) == 1

    def fails(*_, **__):
        raise AssertionError("tokenised again")

    monkeypatch.setattr(module, "tokenize_all", fails)
    for output, settings in (
        ("one", shared),
        ("two", config()),
        ("three", shared),
        ("one", config(token_cache=tmp_path / "tokens", learning_rate=1e-5, seed=3)),
    ):
        again = prepare(start, EPISODES, tmp_path / output, settings)
        assert again.samples.fingerprint == first.samples.fingerprint == alone.samples.fingerprint
        assert again.facts == first.facts
        assert again.facts["samples"] == len(EPISODES)
        assert table.read(again.path).names == first.samples.names


def test_what_is_tokenised_otherwise_is_tokenised_anew(start, tmp_path):  # noqa: F811
    """The key: trajectories and their weights, tokenizer, template, mask, lengths."""
    from step_ray.models import tiny
    from step_ray.models.load import load_model

    template, words, weights = (tmp_path / name for name in ("template", "words", "weights"))
    tokenizer = load_tokenizer(start)
    tokenizer.chat_template += "{# another #}"
    tiny.save(load_model(start), tokenizer, template)
    other = tiny.make_tokenizer(["go to shelf"], vocab_size=310)
    tiny.save(tiny.make_llama(other, hidden=64, layers=1, heads=2, intermediate=64), other, words)
    shutil.copytree(start, weights)
    bigger = tiny.make_llama(load_tokenizer(start), hidden=64, layers=3, heads=2, intermediate=64)
    bigger.save_pretrained(weights)
    cache = tmp_path / "tokens"

    def made(model=start, data=EPISODES, **changes):
        prepare(model, data, tmp_path / "out", config(token_cache=cache, **changes))
        return len(list(cache.iterdir()))

    counts = [made(), made(mask="none"), made(max_length=300), made(words), made(template)]
    counts += [made(data=EPISODES[:-1]), made(max_length=300, overlong="drop")]
    for ones in ((1.0, 2.0), (1.0, 3.0)):
        weighted = [Weighted(e, (*ones, *(1.0 for _ in e.turns[2:]))) for e in EPISODES]
        counts.append(made(data=weighted, loss="reward_weighted"))
    assert counts == list(range(1, len(counts) + 1))
    assert made(weights) == len(counts)  # another model with the same tokenizer


def test_weights_of_turns_from_a_column(start, tmp_path):  # noqa: F811
    weights = {e.id: [0.5 * i for i in range(len(e.turns))] for e in EPISODES}
    path = tmp_path / "weights.parquet"

    def made(found):
        columns = {"id": list(found), "weights": list(found.values()), "other": ["x"] * len(found)}
        pq.write_table(pa.table(columns), path)
        settings = config(loss="reward_weighted", turn_weights=path)
        return prepare(start, EPISODES, tmp_path / "out", settings).samples

    given = made(dict(reversed(weights.items())))
    by_hand = [Weighted(e, tuple(weights[e.id])) for e in EPISODES]
    settings = config(loss="reward_weighted")
    assert (
        given.fingerprint
        == prepare(start, by_hand, tmp_path / "hand", settings).samples.fingerprint
    )
    first = EPISODES[0].id
    for wrong, message in (
        ({first: [1.0] * len(EPISODES[0].turns)}, f"no weights for {EPISODES[1].id}"),
        ({**weights, first: [1.0]}, r"has \[1.0\].*each of its 3 turns"),
        ({**weights, first: [1.0, -1.0, 1.0]}, "a number >= 0"),
        ({**weights, first: [1.0, float("nan"), 1.0]}, "a number >= 0"),
    ):
        with pytest.raises(TrainError, match=message):
            made(wrong)
    path.write_text("id,weights")
    with pytest.raises(TrainError, match="no Parquet file"):
        prepare(
            start, EPISODES, tmp_path / "out", config(**{**dict(settings), "turn_weights": path})
        )


def test_what_cannot_be_begun_is_said(start, tmp_path, monkeypatch):  # noqa: F811
    taken = tmp_path / "README.md"
    taken.write_text("")
    with pytest.raises(TrainError, match=r"README\.md: File exists; a file stands where a folder"):
        prepare(start, EPISODES, taken, config())
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(TrainError, match=r"training\.use_gpu: this machine has no CUDA device"):
        train_alone(start, EPISODES, tmp_path / "out", config(use_gpu=True))
    assert not (tmp_path / "out").exists()
