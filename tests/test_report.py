"""The report page: what it says, that it is safe to open, and that a browser shows it."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import math
import re

import pytest
from report_runs import EVIL, REASONS, chunk, embedded, loaded, make_run, trajectory, write
from typer.testing import CliRunner

import step_ray
from step_ray import schema, store
from step_ray.cli import app
from step_ray.evaluation.statistics import wilson
from step_ray.lineage import RunError
from step_ray.models import tiny
from step_ray.models.base import ModelError
from step_ray.report import charts, chunks, compare, data, groups, page, rows


def built(folder):
    return page.build_report(folder).read_text(encoding="utf-8")


class Parsed(html.parser.HTMLParser):
    """Elements and attributes of a page, and whether its tags close as they should."""

    VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}  # noqa: RUF012
    LEAVES = {"line", "circle", "rect", "polyline"}  # noqa: RUF012

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in self.LEAVES
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.words.append(text)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("evil"), EVIL)


@pytest.fixture(scope="module")
def run_text(run):
    return built(run)


@pytest.fixture(scope="module")
def evil_text(evil):
    return built(evil)


def test_page_says_what_was_measured(run, run_text):
    assert (run / "report" / "index.html").read_text(encoding="utf-8") == run_text
    words = " ".join(Parsed(run_text).words)
    assert "Not part of this run" not in words
    for said in (
        "my run", "STeP run", "2 January 2026, 03:04 UTC", "took 2 min 13 s",  # masthead
        "succeeds in 83.3 %", "50.0 %", "valid_unseen", "golden_only",  # results
        "loss 0.00", "9,000 tokens/s", "500 steps",  # training
        "66.7 %", "40.0 % of 60 episodes", "too many errors", "more errors than a training",
        "3.0 s", "1fingerprint",
        "75.0 %", "25.0 %", "retries 7, unusable 2",  # models
        "a deadline passed", "reflected 21 0 5 0 0",  # environments
    ):  # fmt: skip
        assert said in re.sub(r"\s+", " ", words), said


def test_the_same_run_gives_the_same_page(run, run_text):
    before = sorted(path.name for path in (run / "report").iterdir())
    assert built(run) == run_text
    assert sorted(path.name for path in (run / "report").iterdir()) == before
    assert len(before) == 2


def test_nothing_is_loaded_from_anywhere(evil_text):
    text = evil_text
    parsed = Parsed(text)
    for tag, name, value in parsed.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href", "action", "data", "srcset", "poster"):
            assert re.fullmatch(r"#[a-z]+|data:,", value), (tag, name, value)
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"https?:", text.split('id="data"')[0])
    policy = next(value for _, name, value in parsed.attributes if value.startswith("default-src"))
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "self" not in policy


def test_untrusted_text_stays_text(evil, evil_text):
    parsed = Parsed(evil_text)
    assert parsed.tags.count("script") == 2
    assert "img" not in parsed.tags
    assert evil_text.count("<!--") == 0
    assert all(EVIL in row["instruction"] for row in loaded(evil) if row["group"] == "golden")
    for path in (evil / "report").glob("data-*/*.js"):
        assert not set("<>&\u2028\u2029") & set(path.read_text(encoding="utf-8"))


def test_embeddable_is_json_without_markup():
    value = {"<a>": "&\u2028\u2029</script><!--", "n": [1, 2.5, True, None]}
    text = chunks.embeddable(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value
    assert json.loads(chunks.embeddable("\ud800")) == "?"


def test_all_trajectories_are_there(run, run_text):
    shown = {group["key"]: group for group in embedded(run_text)["groups"]}
    assert list(shown) == [
        "golden", "reflected/kept", "reflected/dropped",
        "evaluation/base", "evaluation/golden_only", "evaluation/step",
    ]  # fmt: skip
    assert [group["total"] for group in shown.values()] == [12, 24, 36, 24, 24, 24]
    found = loaded(run)
    assert len(found) == embedded(run_text)["total"] == 144
    published = {
        row["id"]
        for stage in ("golden", "reflected", "evaluation")
        for row in store.read_rows(run / stage, ["id"])
    }
    assert {row["id"] for row in found} == published
    assert found[0]["group"] == "golden"
    assert found[0]["goal"].startswith("put a mug in it")
    dropped = [row for row in found if row["group"] == "reflected/dropped"]
    assert {row["reason"] for row in dropped} == set(REASONS) - {""}
    assert {row["reason"] for row in found if row["group"] == "evaluation/base"} == {""}
    erring = next(row for row in found if row["errors"] == 2)
    assert (erring["kinds"], erring["corrections"], erring["invalid"]) == (["loop"], 2, 2)
    assert erring["seconds"] == 0.1


def test_a_large_run_is_shown_in_fair_part(run):
    choice = groups.choose(run, 50, [])
    assert sum(group.chosen for group in choice.groups) == pytest.approx(50, abs=6)
    assert all(group.chosen for group in choice.groups)
    dropped = next(group for group in choice.groups if group.kind == "dropped")
    reasons = {row["drop_reason"] for _, row in dropped.rows[:3]}
    assert reasons == set(REASONS) - {""}
    assert len(list(choice.rows())) == sum(group.chosen for group in choice.groups)


def test_evaluation_in_folders(tmp_path):
    write(tmp_path / "config.json", {})
    for student in ("base", "step"):
        for split in ("valid_seen", "valid_unseen"):
            some = schema.to_rows([trajectory(student + split, split=split)])
            store.publish(tmp_path / "evaluate" / student / split, some)
    shown = embedded(built(tmp_path))["groups"]
    assert [(group["label"], group["total"]) for group in shown] == [
        ("Evaluation: base", 2),
        ("Evaluation: step", 2),
    ]


def test_what_other_recipes_choose_from_has_no_weights(tmp_path):
    counts = {"env_timeout": 0, "env_error": 0, "replaced": 0, "recycled": 0}
    stages = {"explored_1": {"name": "explored_1", "outputs": {"environments": {"value": counts}}}}
    write(tmp_path / "config.json", {"recipe": "eto"})
    write(tmp_path / "manifest.json", {"stages": stages})
    rounds = [{"lose": 31, "win": 2, "tie": 4}, {"lose": 5, "win": 0, "tie": 32, "unfinished": 1}]
    write(tmp_path / "results.json", {"rounds": rounds})
    for stage in ("golden", "explored_1", "explored_2", "valued", "calibrated"):
        made = [
            schema.to_row(trajectory(stage, errors=1), {}, ""),
            schema.to_row(trajectory(f"{stage} lost"), {}, "unrecovered_error"),
        ]
        store.publish(tmp_path / stage, made)
    text = built(tmp_path)
    shown = embedded(text)["groups"]
    assert {(group["label"], group["kind"], group["total"]) for group in shown} == {
        ("Golden", "golden", 1),
        ("Golden: dropped", "dropped", 1),
        *((name, "material", 2) for name in ("Explored 1", "Explored 2", "Valued", "Calibrated")),
    }
    said = " ".join(Parsed(text).words)
    assert "1 31 2 4 0 33" in said
    assert "2 5 0 32 1 5" in said
    assert "None hung, failed, was replaced or recycled in explored_1." in said
    weighted = [row["id"] for row in loaded(tmp_path) if any("weight" in t for t in row["turns"])]
    assert weighted == [trajectory("golden").id]


def test_calibrations(tmp_path):
    facts = {
        "explored": 40,
        "continuations": 123,
        "deviations": 10,
        "chosen": {"calibration": 9, "expert": 4},
        "pasted": {"trajectories": 10, "not_executable": 3},
    }
    write(tmp_path / "results.json", {"calibration": facts})
    said = " ".join(Parsed(built(tmp_path)).words)
    for words in ("25.0 % of 40 steps", "123 continuations", "30.0 % of 10", "the way back after"):
        assert words in said, words


@pytest.mark.parametrize(
    ("mask", "error", "correct"),
    [("partial", 0, 1), ("none", 1, 1), ("corrections_only", 0, 0), ({"error": 0.5}, 0.5, 0)],
)
def test_weights_follow_the_mask(tmp_path, mask, error, correct):
    store.publish(tmp_path / "reflected", schema.to_rows([trajectory("a", errors=1, veto=True)]))
    write(tmp_path / "config.json", {"training": {"mask": mask}})
    built(tmp_path)
    turns = loaded(tmp_path)[0]["turns"]
    assert [turn["verdict"] for turn in turns] == ["correct", "error", "correction"]
    assert [turn.get("weight", 0) for turn in turns[:2]] == [correct, error]
    assert turns[1]["executed"] is False
    assert turns[1]["review"]["reflection"].startswith("reflection")
    assert "review" not in turns[2]  # the error's card shows it already


def test_nothing_untrained_has_a_weight(run, run_text):
    for row in loaded(run):
        weighed = any("weight" in turn for turn in row["turns"])
        assert weighed == (row["group"] in ("golden", "reflected/kept"))


def test_large_texts_are_cut_and_large_data_is_split(tmp_path):
    word = "Ein Zimmer mit <b>vielen</b> Dingen & mehr. " * 40
    large = [trajectory(f"t{i}", text=word, errors=5) for i in range(20)]
    huge = dataclasses.replace(trajectory("huge"), instruction="x" * (rows.MAX_TEXT + 7))
    store.publish(tmp_path / "golden", schema.to_rows([*large, huge]))
    write(tmp_path / "config.json", {})
    path = page.build_report(tmp_path)
    assert path.stat().st_size < 150_000
    sizes = [one.stat().st_size for one in path.parent.glob("data-*/rows-*.js")]
    assert len(sizes) > 1
    assert max(sizes) < 2 * chunks.ROWS_BYTES
    cut = next(row for row in loaded(tmp_path) if len(row["instruction"]) > rows.MAX_TEXT)
    assert cut["instruction"].endswith("[7 more characters]")


def with_model(folder, name="step", texts=()):
    """A training stage whose model has a tokenizer of the run's words."""
    words = [*texts, "Thought: I look\nAction: go on Observation: You see"]
    tokenizer = tiny.make_tokenizer(words, 600)
    tiny.save(tiny.make_llama(tokenizer), tokenizer, folder / name / "model")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["stages"][name]["outputs"] = {"model": {"path": f"{name}/model"}}
    write(folder / "manifest.json", manifest)
    return tokenizer


def test_tokens_are_those_that_are_trained(tmp_path):
    folder = make_run(tmp_path / "run")
    tokenizer = with_model(folder)
    path = page.build_report(folder, token_views=20)
    meta = embedded(path.read_text(encoding="utf-8"))
    assert meta["tokenizer"] == {
        "tokenizer": "step/model", "maxLength": meta["tokenizer"]["maxLength"], "trajectories": 20
    }  # fmt: skip
    seen = [row for row in loaded(folder) if row["tokens"] >= 0]
    assert len(seen) == 20
    assert {row["group"] for row in seen} == {"golden", "reflected/kept"}
    by_id = {one.id: one for stage in ("golden", "reflected") for one in store.read(folder / stage)}
    for row in seen:
        view = chunk(path.parent / meta["folder"] / f"tokens-{row['tokens']}.js")
        sample = step_ray.tokenize(by_id[row["id"]], tokenizer)
        stretches = view["stretches"]
        assert [token for one in stretches for token in one["ids"]] == sample.input_ids
        weights = [one["weight"] for one in stretches for _ in one["ids"]]
        assert weights == sample.loss_weights
        assert {one["verdict"] for one in stretches if one["weight"]} <= {"correct", "correction"}
        said = ["".join(one["texts"]) for one in stretches if one["weight"]]
        assert said == [span.text for span in sample.spans]


def test_no_tokens_without_a_tokenizer(tmp_path):
    folder = make_run(tmp_path / "run")
    page.build_report(folder)
    assert {row["tokens"] for row in loaded(folder)} == {-1}
    with pytest.raises(ModelError, match="not a model folder"):
        page.build_report(folder, tokenizer=tmp_path / "nowhere")


def test_comparison(run, tmp_path):
    other = make_run(tmp_path / "other", count=30)
    config = {"name": "my run", "recipe": "step", "env": {"name": ""}, "seed": 7, "output": "o"}
    write(other / "config.json", config)
    text = page.build_report(run, [other]).read_text(encoding="utf-8")
    words = re.sub(r"\s+", " ", " ".join(Parsed(text).words))
    page.build_report(run)
    assert "my run (run0)" in words or "my run (other)" in words
    assert "What differs in the config" in words
    assert "seed" in words
    assert "output" not in words.split("What differs in the config")[1].split("Training")[0]
    assert "Success minus this run" in words
    with pytest.raises(RunError, match="not a run folder"):
        page.build_report(run, [tmp_path])


def test_differences_are_paired_where_the_episodes_are_the_same(run, tmp_path):
    same = make_run(tmp_path / "same")
    other = make_run(tmp_path / "other", count=13)
    first, twin, odd = (compare.episodes(data.collect(folder)) for folder in (run, same, other))
    key = ("valid_unseen", "step")
    assert len(first[key]) == 12
    assert {seed for _, seed in first[key]} == {3}
    value, low, high = compare.paired(twin, first, key)
    assert (value, math.isnan(low), math.isnan(high)) == (0.0, True, True)
    assert compare.paired(odd, first, key) is None
    lost = {key: dict.fromkeys(first[key], 0.0)}
    gap, low, high = compare.paired(lost, first, key)
    assert gap == pytest.approx(-sum(first[key].values()) / 12)
    assert low < gap < high < 0
    text = page.build_report(run, [same]).read_text(encoding="utf-8")
    built(run)
    assert text.count('<b class="gap ">+0.0</b><small>no interval, paired') == 6


def test_a_task_of_several_seeds_is_one_witness():
    """Three seeds that each say the same of 30 tasks know no more of tasks than one does."""
    key = ("valid_unseen", "step")

    def paired(seeds):
        won = {(f"task {n}", seed): float(n % 3 == 0) for n in range(30) for seed in range(seeds)}
        return compare.paired({key: won}, {key: dict.fromkeys(won, 0.0)}, key)

    assert paired(3) == pytest.approx(paired(1))
    _, low, high = paired(3)
    assert high - low > 0.3


def test_all_won_against_all_lost_is_not_certain():
    key = ("valid_unseen", "step")
    won = {(f"task {n}", 0): 1.0 for n in range(5)}
    gap, low, high = compare.paired({key: won}, {key: dict.fromkeys(won, 0.0)}, key)
    assert (gap, math.isnan(low), math.isnan(high)) == (1.0, True, True)


def test_command(run, tmp_path):
    done = CliRunner().invoke(app, ["report", str(run), "--limit", "30", "--token-views", "0"])
    assert done.exit_code == 0, done.output
    assert done.output.strip().endswith("index.html")
    assert 25 < len(loaded(run)) < 40
    built(run)
    for arguments, said in (
        (["--compare", str(tmp_path)], "not a run folder"),
        (["--tokenizer", str(tmp_path / "no")], "not a model folder"),
    ):
        refused = CliRunner().invoke(app, ["report", str(run), *arguments])
        assert refused.exit_code == 2, refused.output
        assert said in refused.output
    assert len(loaded(run)) == 144


def test_newcombe():
    # Newcombe (1998), table II, method 10: 56/70 against 48/80.
    a, b = wilson(56, 70), wilson(48, 80)
    gap, low, high = compare.newcombe((a.value, a.low, a.high), (b.value, b.low, b.high))
    assert (round(gap, 4), round(low, 4), round(high, 4)) == (0.2, 0.0524, 0.3339)


def test_audit_section(tmp_path):
    folder = make_run(tmp_path / "run", EVIL)
    (folder / "report").mkdir()
    found = {
        "samples": 5, "trajectories": 6, "tokens": 100, "trained_tokens": 40, "trained_share": 0.4,
        "tokenizer": EVIL, "violation_count": 1, "violations": [EVIL], "mask": {"error": 0},
        "verdicts": {"error": {"turns": 2, "tokens": 9, "trained_tokens": 0}},
        "lengths": {"min": 1, "median": 2, "p95": 3, "max": 4, "bins": [[1, 2, 3], "odd"]},
        "spans": {"correct": [{"trajectory": "a", "turn": 1, "text": EVIL}]},
        "gradients": {"whole": 1.0, "verdicts": {"error": {"tokens": 9, "loss": 0.5, "masked": 0}}},
    }  # fmt: skip
    write(folder / "report" / "audit.json", found)
    parsed = Parsed(built(folder))
    words = " ".join(parsed.words)
    assert "Mask audit" in words
    assert "1 violations" in words
    assert "What pulls at the model" in words
    assert "img" not in parsed.tags


def test_missing_parts_are_named(tmp_path):
    write(tmp_path / "config.json", {"name": "bare"})
    words = " ".join(Parsed(built(tmp_path)).words)
    assert words.count("Not part of this run.") == 4


def test_what_cannot_be_read_is_said(tmp_path):
    make_run(tmp_path)
    shard = next((tmp_path / "golden").glob("part-*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1])
    (tmp_path / "results.json").write_text("{")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["stages"]["step"] |= {"status": "failed", "error": "ValueError: no <disk>"}
    write(tmp_path / "manifest.json", manifest)
    text = built(tmp_path)
    words = " ".join(Parsed(text).words)
    assert shard.name in words
    assert "results.json: cannot be read" in words
    assert "Stage step is failed: ValueError: no <disk>" in words
    assert embedded(text)["groups"][0]["key"] == "reflected/kept"
    assert not list((tmp_path / "report").glob(".tmp-*"))


def test_odd_figures(tmp_path):
    write(
        tmp_path / "results.json",
        {
            "students": [
                {"student": 5, "split": None, "success": {"value": float("nan"), "low": 0}},
                {"by_type": {"a": {}}, "outcomes": {"env_error": 2}, "n": "many"},
                "not a row",
            ],
            "synthesis": {"episodes": None, "errors": True, "drop_reasons": [], "kept": 0},
            "seconds": {"a": 5, "b": {"total": -1, "env": "x"}},
            "name": "\ud800",
        },
    )
    write(tmp_path / "config.json", {"name": "\ud800", "training": {"mask": "odd"}})
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "metrics.jsonl").write_text(
        '{"step": 1, "loss": NaN}\n[]\n{"step": 2, "loss": 1.5}\n'
    )
    words = " ".join(Parsed(built(tmp_path)).words)
    assert "2 × env_error" in words
    assert "unknown mask" in words


def test_not_a_run(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        page.build_report(tmp_path)
    assert not (tmp_path / "report").exists()


def test_curves_are_thinned(run):
    curves = data.collect(run).curves
    assert [curve.stage for curve in curves] == ["base", "step"]
    assert all(len(curve.points) <= data.MAX_POINTS for curve in curves)
    assert curves[0].steps == 500
    assert curves[0].tokens_per_second == 9000


def test_ticks():
    assert charts.ticks(0, 2.7) == [0, 1, 2, 3]
    assert charts.ticks(0.31, 0.39) == [0.3, 0.32, 0.34, 0.36, 0.38, 0.4]
    for low, high in ((0, 0), (-1, 1e6), (1e-9, 2e-9), (3, 3.0000001)):
        found = charts.ticks(low, high)
        assert found[0] <= low < high <= found[-1] or low == high
        assert 2 <= len(found) <= 8
