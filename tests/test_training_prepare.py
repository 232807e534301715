"""What trainings can be given: trajectories, a published dataset, samples, a table."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from test_training_loop import EPISODES, config, start  # noqa: F401 - start is a fixture

from step_ray import store
from step_ray.models.load import load_tokenizer
from step_ray.publication import publish
from step_ray.schema import to_row
from step_ray.training import table
from step_ray.training.masks import tokenize
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
            (folder, str(folder), kept, iter(kept), samples, table.from_samples(samples))
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
        fingerprint(max_length=90),
    ]
    assert len({first, *changed}) == 1 + len(changed)
