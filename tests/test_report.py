"""The report page: what it says, that it is safe to open, and that a browser shows it."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from step_ray import schema, store
from step_ray.evaluation.statistics import summarise
from step_ray.lineage import RunError
from step_ray.report import charts, data, page, samples
from step_ray.trajectory import Provenance, Review, Trajectory, Turn, content_hash

EVIL = (
    "<script>document.title='pwned'</script></script><!--<script>"
    '"><img src=x onerror="document.title=\'pwned\'">&amp;\u2028\u202e'
)
REASONS = ("", "", "too_many_errors", "low_reward", "env_timeout")


def trajectory(name, *, text="", errors=0, success=True, student="", split="train", veto=False):
    turns = [Turn(f"I look {text}", f"look {text}", f"You see {text}", seconds=0.1)]
    for number in range(errors):
        review = Review(
            True, "loop", f"error {text}", f"reason {text}", f"reflection {text}", "better", "go on"
        )
        turns.append(
            Turn(
                f"wrong thought {number}",
                f"wrong action {text}",
                "" if veto else "Nothing happens.",
                verdict="error",
                review=review,
                executed=not veto,
                valid=False,
            )
        )
        turns.append(
            Turn(
                f"right thought {number}",
                "go on",
                "You go.",
                author="teacher",
                verdict="correction",
                review=review,
            )
        )
    return Trajectory(
        id=content_hash(name),
        task=f"task {text}{name}",
        env="alfworld",
        split=split,
        task_type=f"type_{len(name) % 3}",
        instruction=f"The instruction. {text}",
        initial_observation=f"A room. {text}\n\nYour task is to: put a mug in it {text}.",
        turns=tuple(turns),
        reward=float(success),
        success=success,
        outcome="success" if success else "step_limit",
        provenance=Provenance(student=student, teacher="expert", seed=3),
    )


def make_run(folder, text="", count=12):
    """A run folder as a recipe leaves it; ``text`` gets into every free text."""
    folder.mkdir(exist_ok=True)
    golden = [trajectory(f"g{text}{i:0{i % 3 + 3}}", text=text) for i in range(count)]
    store.publish(folder / "golden", schema.to_rows(golden))
    rows = []
    for i in range(count * 5):
        made = trajectory(f"r{i}", text=text, errors=1 + i % 3, success=i % 5 != 3, veto=i % 2 == 0)
        rows.append(schema.to_row(made, {}, REASONS[i % 5]))
    store.publish(folder / "reflected", rows)
    tested, students = [], []
    for student, lost in (("base", 2), ("golden_only", 3), (f"step{text}", 9)):
        for split in ("valid_seen", "valid_unseen"):
            some = [
                trajectory(
                    f"{student}{split}{i}", student=student, split=split, success=i % lost > 0
                )
                for i in range(count)
            ]
            tested += some
            students.append(
                {"student": student, "split": split, "train_trajectories": 7, **summarise(some)}
            )
    evaluation = folder / "evaluation"
    store.publish(evaluation, schema.to_rows(tested))
    named = {"base": "base", "golden_only": "golden_only", f"step{text}": f"step{text}"}
    write(evaluation / "stage.json", {"identity": {"inputs": {"students": named}}})
    for stage in ("base", "step"):
        (folder / stage).mkdir(exist_ok=True)
        lines = [
            {"step": i + 1, "loss": 2 / (i + 1), "lr": 0.1, "tokens_per_second": 9000}
            for i in range(500)
        ]
        text_lines = "\n".join(map(json.dumps, lines)) + '\n{"step": 501, "lo'
        (folder / stage / "metrics.jsonl").write_text(text_lines)
    write(
        folder / "config.json", {"name": f"my run{text}", "recipe": "step", "env": {"name": text}}
    )
    stages = {
        name: {
            "name": name,
            "order": order,
            "status": "done",
            "fingerprint": f"{order}fingerprint{text}",
            "seconds": 10.0 * order,
            "seconds_by_phase": {"env": 1.0, "train": 3.0},
            "started": "2026-01-02T03:04:05+00:00",
        }
        for order, name in enumerate(("golden", "base", "reflected", "step", "evaluation"), 1)
    }
    write(
        folder / "manifest.json",
        {"created": "2026-01-02T03:04:05+00:00", "seconds": 133.0, "stages": stages},
    )
    write(
        folder / "results.json",
        {
            "students": students,
            "synthesis": {
                "episodes": 60,
                "errors": 120,
                "corrections": 119,
                "recovered": 80,
                "kept": 24,
                "drop_reasons": {"too_many_errors": 12, f"odd{text}": 24},
                "error_kinds": {"loop": 120, f"kind{text}": 3},
            },
            "models": {
                "reflected": {
                    "student": {"asked": 900, "prompt tokens": 1000, "prefix_cache_hit_rate": 0.75},
                    "teacher": {
                        "asked": 300,
                        "from cache": 100,
                        "reply_cache_hit_rate": 0.25,
                        "cost": 1.5,
                        "retries": 7,
                        f"unusable {text}": 2,
                    },
                },
                f"s{text}": {f"r{text}": {"asked": text}},
            },
            "seconds": {"golden": {"total": 4.0, "env": 3.0}, f"s{text}": {"total": 9, "odd": 1}},
        },
    )
    return folder


def write(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")


def built(folder):
    return page.build_report(folder).read_text(encoding="utf-8")


def embedded(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1))


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
    ):  # fmt: skip
        assert said in re.sub(r"\s+", " ", words), said


def test_the_same_run_gives_the_same_page(run, run_text):
    assert built(run) == run_text


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


def test_untrusted_text_stays_text(evil_text):
    text = evil_text
    parsed = Parsed(text)
    assert parsed.tags.count("script") == 2
    assert "img" not in parsed.tags
    assert text.count("<!--") == 0
    value = embedded(text)
    assert EVIL in value["instructions"][0]
    raw = text.split('id="data">')[1].split("</script>")[0]
    assert not set("<>&\u2028") & set(raw)


def test_embeddable_is_json_without_markup():
    value = {"<a>": "&\u2028\u2029</script><!--", "n": [1, 2.5, True, None]}
    text = samples.embeddable(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_groups_and_choice(run_text):
    groups = {group["key"]: group for group in embedded(run_text)["groups"]}
    assert list(groups) == [
        "golden", "reflected/kept", "reflected/dropped",
        "evaluation/base", "evaluation/golden_only", "evaluation/step",
    ]  # fmt: skip
    assert groups["reflected/dropped"]["total"] == 36
    dropped = groups["reflected/dropped"]["trajectories"]
    assert {t["reason"] for t in dropped[:3]} == set(REASONS) - {""}
    assert {t["split"] for t in groups["evaluation/base"]["trajectories"][:4]} == {
        "valid_seen",
        "valid_unseen",
    }
    assert {t["reason"] for t in groups["evaluation/base"]["trajectories"]} == {""}
    assert groups["golden"]["trajectories"][0]["goal"].startswith("put a mug in it")


def test_evaluation_in_folders(tmp_path):
    write(tmp_path / "config.json", {})
    for student in ("base", "step"):
        for split in ("valid_seen", "valid_unseen"):
            rows = schema.to_rows([trajectory(student + split, split=split)])
            store.publish(tmp_path / "evaluate" / student / split, rows)
    groups = embedded(built(tmp_path))["groups"]
    assert [(group["label"], group["total"]) for group in groups] == [
        ("Evaluation: base", 2),
        ("Evaluation: step", 2),
    ]


@pytest.mark.parametrize(
    ("mask", "error", "correct"),
    [("partial", 0, 1), ("none", 1, 1), ("corrections_only", 0, 0), ({"error": 0.5}, 0.5, 0)],
)
def test_weights_follow_the_mask(tmp_path, mask, error, correct):
    store.publish(tmp_path / "reflected", schema.to_rows([trajectory("a", errors=1, veto=True)]))
    write(tmp_path / "config.json", {"training": {"mask": mask}})
    turns = embedded(built(tmp_path))["groups"][0]["trajectories"][0]["turns"]
    assert [turn["verdict"] for turn in turns] == ["correct", "error", "correction"]
    assert [turn.get("weight", 0) for turn in turns[:2]] == [correct, error]
    assert turns[1]["executed"] is False
    assert turns[1]["review"]["reflection"].startswith("reflection")
    assert "review" not in turns[2]  # the error's card shows it already


def test_nothing_untrained_has_a_weight(run_text):
    for group in embedded(run_text)["groups"]:
        weighed = any("weight" in turn for t in group["trajectories"] for turn in t["turns"])
        assert weighed == (group["kind"] in ("golden", "kept"))


def test_a_large_run_is_a_small_page(tmp_path):
    word = "Ein Zimmer mit <b>vielen</b> Dingen & mehr. " * 40
    large = [
        dataclasses.replace(
            trajectory(f"t{i}", text=word), turns=trajectory("x", text=word, errors=5).turns * 4
        )
        for i in range(50)
    ]
    store.publish(tmp_path / "golden", schema.to_rows(large))
    rows = [schema.to_row(t, {}, "too_long" if i % 2 else "") for i, t in enumerate(large)]
    store.publish(tmp_path / "reflected", rows)
    write(tmp_path / "config.json", {})
    path = page.build_report(tmp_path)
    assert path.stat().st_size < 3_000_000
    for group in embedded(path.read_text(encoding="utf-8"))["groups"]:
        assert 0 < len(group["trajectories"]) <= 40


def test_missing_parts_are_named(tmp_path):
    write(tmp_path / "config.json", {"name": "bare"})
    words = " ".join(Parsed(built(tmp_path)).words)
    assert words.count("Not part of this run.") == 5


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


# -- in a browser ----------------------------------------------------------------------------------

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, so the page is not opened")


def dom(path: Path, profile: Path, fragment=""):
    options = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
        "--disable-background-networking --disable-component-update --disable-dev-shm-usage"
    )
    command = [CHROMIUM, *options.split(), f"--user-data-dir={profile}", "--dump-dom"]
    done = subprocess.run(
        [*command, f"file://{path}{fragment}"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"{CHROMIUM} does not start here, so the page is not opened: {done.stderr}")
    return done.stdout


@browser
def test_a_browser_shows_it_and_runs_nothing_else(evil, evil_text, tmp_path):
    path = evil / "report" / "index.html"
    kept = embedded(evil_text)["groups"][1]["trajectories"]
    chosen = next(t for t in kept if t["errors"] == 2)
    shown = dom(path, tmp_path, f"#t-{chosen['id']}")
    assert "<title>pwned" not in shown
    assert "<img" not in shown
    assert shown.count("<script") == 2
    rendered = shown.split('<div class="detail">')[1].split('<script type="application/json"')[0]
    assert "right thought 1" in rendered
    assert "&lt;script&gt;document.title=" in rendered
    assert rendered.count('class="turn error"') == 2
    assert rendered.count('class="turn correction"') == 2
    assert rendered.count("not trained, weight 0") == 2
    assert re.search(r'text  untrained"><span class="words">wrong thought 0', rendered)
    assert re.search(r'text  trained"><span class="words">right thought 0', rendered)


@browser
def test_filters(run_text, tmp_path):
    text = run_text
    act = """<script>
const pick = (label, value) => {
  const select = [...document.querySelectorAll(".filters label")]
    .find((node) => node.firstChild.data === label).querySelector("select");
  select.value = value;
  select.dispatchEvent(new Event("change"));
};
pick("Stage", "reflected/dropped");
pick("Reason", "low_reward");
pick("Task type", "type_2");
document.querySelectorAll(".list button")[1].click();
</script></body>"""
    copy = tmp_path / "copy.html"  # without the policy, which would refuse the script above
    copy.write_text(re.sub(r"<meta http-equiv[^>]*>", "", text).replace("</body>", act))
    shown = dom(copy, tmp_path / "profile")
    items = re.findall(r'<button type="button" aria-current="(\w+)"', shown)
    wanted = [
        t
        for group in embedded(text)["groups"]
        if group["key"] == "reflected/dropped"
        for t in group["trajectories"]
        if t["reason"] == "low_reward" and t["type"] == "type_2"
    ]
    assert len(items) == len(wanted) > 1
    assert items.index("true") == 1
    assert f"id {wanted[1]['id']}" in shown
    assert f"{len(wanted)} of 36 shown" in shown
