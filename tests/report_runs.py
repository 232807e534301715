"""Run folders as recipes leave them, made without running anything, for tests of the report."""

from __future__ import annotations

import json
import re

from step_ray import schema, store
from step_ray.evaluation.statistics import summarise
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
            "outputs": {"environments": {"value": {"env_timeout": 7 * order, "replaced": 5}}},
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


def loaded(folder):
    """What a page would load: the trajectories' entries in the index with their details."""
    text = (folder / "report" / "index.html").read_text(encoding="utf-8")
    meta = embedded(text)
    data = folder / "report" / meta["folder"]
    columns: dict[str, list] = {}
    for number in range(meta["index"]):
        for name, values in chunk(data / f"index-{number}.js").items():
            columns.setdefault(name, []).extend(values)
    details = []
    for number, start in enumerate(meta["starts"]):
        assert start == len(details)
        value = chunk(data / f"rows-{number}.js")
        details += [
            {**row, "instruction": value["instructions"][row["instruction"]]}
            for row in value["rows"]
        ]
    rows = []
    for number, row in enumerate(details):
        line = {name: values[number] for name, values in columns.items()}
        for name in ("env", "type", "split", "outcome", "reason"):
            line[name] = meta["names"][name][line[name]]
        line["kinds"] = [meta["names"]["kinds"][kind] for kind in line["kinds"]]
        assert line["id"] == row["id"]
        rows.append({**line, **row, "group": meta["groups"][line["group"]]["key"]})
    return rows


def chunk(path):
    text = path.read_text(encoding="utf-8")
    called = re.fullmatch(r'stepRay\.put\("(\w+)",(\d+),(.*)\);\n', text, re.DOTALL)
    assert path.name == f"{called.group(1)}-{called.group(2)}.js"
    return json.loads(called.group(3))


def embedded(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1))
