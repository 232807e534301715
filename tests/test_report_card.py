"""The card says what is in the data, and nothing in the data can say anything else in the card."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st
from strategies import many, texts, trajectories
from test_exchange_formats import EXECUTED

from step_ray import store
from step_ray.report.card import Exported, card, code, facts_of, plain
from step_ray.schema import to_row
from step_ray.trajectory import Provenance, Trajectory

EXPORTED = Exported("axolotl", "train.parquet", "partial", 2, 2, 1, {"half_masked_message": 3})
MADE = Provenance("engine-1", "f" * 8, "move", "student-hash", "teacher-hash", "7", "{}", 3, "0.1")


def named(name: str, one: Trajectory, provenance: Provenance = MADE) -> Trajectory:
    return dataclasses.replace(one, id=name * 32, env="alfworld", provenance=provenance)


def metadata(text: str) -> dict[str, object]:
    opening, head, _ = text.split("---\n", 2)
    assert opening == ""
    value = yaml.safe_load(head)
    assert isinstance(value, dict)
    return value


def test_facts_are_counted(tmp_path: Path) -> None:
    rows = [
        to_row(named("a", EXECUTED), {"on_error": "execute"}),
        to_row(named("b", EXECUTED, dataclasses.replace(MADE, seed=4))),
        to_row(named("c", EXECUTED), drop_reason="too_many_errors"),
    ]
    store.publish(tmp_path / "reflected", rows)
    text = card([tmp_path / "reflected"], EXPORTED)
    for line in (
        "| dropped: too_many_errors | 1 |",
        "| left out of this format: half_masked_message | 3 |",
        "| turns that a teacher flagged | 2 |",
        "| engine | `engine-1` 2 |",
        "| student | `student-hash` 2 |",
        "| version of the teacher's prompts | `7` 2 |",
        "| seed | `3` 1, `4` 1 |",
        "| after an error | `execute` 1 |",
        "- ALFWorld's games derive from ALFRED; both are under the MIT licence.",
    ):
        assert line in text.splitlines(), line
    assert store.read_manifest(tmp_path / "reflected").content_hash in text
    about = metadata(text)
    assert about["size_categories"] == ["n<1K"]
    assert about["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "train.parquet"}]}
    ]


def test_a_trajectory_in_two_datasets_counts_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        store.publish(tmp_path / name, [to_row(named("a", EXECUTED))])
    assert facts_of([tmp_path / "one", tmp_path / "two"]).rows == 1


@given(listed=many(trajectories(), min_size=1, max_size=3), data=st.data())
def test_no_text_of_the_data_becomes_markup(listed: list[Trajectory], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        hostile = [
            dataclasses.replace(
                one,
                env=data.draw(texts()) + "\n---\nlicense: mit\n---\n# `<script>`",
                task_type="| `x` | [a](b) \n## heading",
            )
            for one in listed
        ]
        store.publish(Path(folder) / "d", [to_row(one, drop_reason="") for one in hostile])
        text = card([Path(folder) / "d"], EXPORTED)
    about = metadata(text)
    assert "license" not in about
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# Agent trajectories",
        "## What is in it",
        "## How to read it",
        "## How it was made",
        "## How to replay it",
        "## Licence",
    ]
    # Without spans and blocks of code, nothing of it is left.
    outside = re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    assert "script" not in outside
    assert "[a]" not in outside


@given(texts(200))
def test_shown_text_cannot_end_its_span_or_cell(text: str) -> None:
    shown = code(text)
    assert shown[0] == shown[-1] == "`"
    assert not set("`\n\r|") & set(shown[1:-1])
    assert not set("`\n\r|<>[]*#&") & set(plain(text))
