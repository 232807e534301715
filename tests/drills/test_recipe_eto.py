"""ETO on a real Ray at the smallest size: explore, pair, prefer, twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import step_ray

from step_ray import store
from step_ray.exchange.exporting import Export, export
from step_ray.recipes.verify import check_pairs, verify
from step_ray.synthesis.pairs import PAIRS, read_pairs

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

CONFIG = """\
recipe: eto
output: {output}
env:
  games: {{train: 6, valid_seen: 2, valid_unseen: 2}}
  task_types: [pick_and_place_simple]
  max_steps: 8
student: {{max_tokens: 48}}
eto: {{iterations: 2, epochs: 1, pairs_per_batch: 2, extra_turns: 2}}
synthesis: {{workers: 1, block_size: 6}}
training: {{epochs: 1, workers: 1, save_every_steps: 0}}
evaluation: {{workers: 1, max_steps: 4}}
ray: {{num_cpus: 4, object_store_mb: 100}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eto")
    (folder / "run.yaml").write_text(CONFIG.format(output=folder / "run"))
    done = step_ray("run", str(folder / "run.yaml"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "run"


def test_each_round_explores_with_the_policy_before(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    students = list(dict.fromkeys(row["student"] for row in results["students"]))
    assert students == ["golden_only", "eto_1", "eto_2"]
    explorers = [
        {one.provenance.student for one in store.read(finished / f"explored_{n}", kept_only=False)}
        for n in (1, 2)
    ]
    assert len(explorers[0]) == len(explorers[1]) == 1
    assert explorers[0] != explorers[1]
    for number, counts in enumerate(results["rounds"], start=1):
        pairs = list(read_pairs(finished / f"pairs_{number}" / PAIRS))
        assert len(pairs) == counts["lose"] + counts["win"] > 0
        assert sum(counts.values()) == 6
    assert (finished / "report" / "index.html").stat().st_size > 10_000


def test_verification_passes_and_names_a_pair_that_was_changed(finished: Path) -> None:
    counted: dict[str, int] = {}
    assert verify(finished, counted.__setitem__) == []
    assert (
        counted["eto_1: samples decoded"]
        == 2 * counted["pairs_1: pairs compared with their trajectories"]
    )
    pairs = list(read_pairs(finished / "pairs_1" / PAIRS))
    published = {one.id: one for one in store.read(finished / "explored_1", kept_only=False)}
    problems = list(check_pairs(pairs[:1], published))
    assert len(problems) == 1
    assert pairs[0].chosen.id in problems[0], "the expert's trajectory is not among those given"


def test_the_same_command_again_only_skips(finished: Path) -> None:
    done = step_ray("run", str(finished.parent / "run.yaml"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("done before") == 9


def test_pairs_go_to_trl(finished: Path, tmp_path: Path) -> None:
    pairs = list(read_pairs(finished / "pairs_2" / PAIRS))
    exported = export(
        Export(finished, "trl-dpo", tmp_path / "out", stages=["pairs_2"], kind="jsonl")
    )
    rows = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").open()]
    assert exported.rows == len(rows) == len(pairs)
    for row, pair in zip(rows, pairs, strict=True):
        assert [message["role"] for message in row["prompt"]] == ["user"]
        assert row["chosen"][-1]["content"].endswith(pair.chosen.turns[-1].action)
        assert row["rejected"][-1]["content"].endswith(pair.rejected.turns[-1].action)
    assert "observations" in exported.warning
