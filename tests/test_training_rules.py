"""The rules by which a training makes samples."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError
from report_runs import trajectory

from step_ray.models import tiny
from step_ray.training.masks import Worthless, tokenize
from step_ray.training.rules import Rules, positions


def model(folder, limit):
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": limit}))
    return folder


def test_a_config_is_read_and_the_model_limits_it(tmp_path):
    folder = model(tmp_path, 512)
    section = {"mask": {"error": 0.5}, "overlong": "drop", "epochs": 3, "workers": "what else"}
    rules = Rules.of(section, folder)
    assert (rules.mask, rules.overlong, rules.max_length) == ({"error": 0.5}, "drop", 512)
    assert Rules.of({"max_length": 64}, folder).max_length == 64
    assert Rules.of({}, model(tmp_path, None)).max_length is None
    with pytest.raises(ValidationError, match="mask"):
        Rules.of({"mask": "odd"}, folder)


def test_changes_leave_the_rest(tmp_path):
    rules = Rules(mask="none", max_length=99)
    assert rules.with_(mask=None, max_length=20) == Rules(mask="none", max_length=20)


def test_samples_are_those_of_the_training():
    one = trajectory("a", errors=1)
    texts = ["Thought: I look\nAction: go on", one.instruction, one.initial_observation]
    tokenizer = tiny.make_tokenizer(texts, 500)
    assert Rules(mask="none").tokenize(one, tokenizer) == tokenize(one, tokenizer, "none")
    lost = trajectory("b", errors=1, success=False)
    with pytest.raises(Worthless):
        Rules(by_reward=True).tokenize(lost, tokenizer)


@pytest.mark.parametrize(("stated", "found"), [(7, 7), (0, None), ("many", None), (None, None)])
def test_positions(tmp_path, stated, found):
    assert positions(model(tmp_path, stated)) == found
