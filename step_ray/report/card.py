"""The dataset card: a Hugging Face README with YAML metadata, made from the data's own facts.

What stands in the data may come from models and environments: it is shown as code and can be
neither markup nor metadata.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from step_ray import store
from step_ray._version import __version__
from step_ray.bucket import Place
from step_ray.config import RunConfig
from step_ray.lineage import CONFIG, STAGE, read_json, read_run
from step_ray.trajectory import content_hash

CARD = "README.md"
_COLUMNS = (
    "id", "task", "env", "split", "task_type", "instruction", "reward", "success", "outcome",
    "provenance", "keep", "drop_reason", "spec", "errors", "corrections", "n_turns",
)  # fmt: skip
_SHOWN = 12  # values of a fact that are listed
_SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
)  # fmt: skip
_LICENCES = {
    "alfworld": "ALFWorld's games derive from ALFRED; both are under the MIT licence.",
    "scienceworld": "ScienceWorld is under the Apache licence 2.0.",
    "webshop": "WebShop's code is under the MIT licence. The text of its official catalogue was "
    "taken from a shop's public pages; that of a generated catalogue is step-ray's own.",
}
_READ = {
    "messages": "`loss` of a message says whether it is trained (ms-swift reads that). Trainers "
    "that take `messages` alone, TRL's among them, train every message of the assistant.",
    "agentgym": "`loss` of a message says whether it is trained. AgentGym's own behavioural "
    "cloning trains all that `gpt` says whatever `loss` is.",
    "axolotl": "`type: chat_template`, `roles_to_train: []`, `train_on_eos: turn`, "
    "`message_field_training: train`, `message_field_training_detail: train_detail`.",
    "llamafactory": "LLaMA-Factory version 1 reads the file as it is (`dataset:` its path) and "
    "weighs messages by `loss_weight`. Version 0's ShareGPT cannot mask single messages.",
    "trl": "`SFTTrainer` trains the completion alone. Each trained message is a row.",
    "trl-dpo": "`DPOTrainer` takes the file as it is. Its loss is over all messages of `chosen` "
    "and `rejected`, the environment's observations too; step-ray's own is over the agent's alone.",
    "trl-tokens": "`SFTTrainer` takes `input_ids` and `labels` as they are.",
    "skyrl": "SkyRL's SFT trainer takes the file as pretokenized data: `input_ids`, `loss_mask`.",
}
_MASKS = {
    "partial": "Turns flagged as errors stay in the context and are not trained.",
    "none": "All turns are trained, those flagged as errors too.",
    "corrections_only": "Corrections are trained, all other turns are context.",
}
_FLAGS_ALONE = ("messages", "agentgym")


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported: ``rows`` of ``trajectories`` in ``file``; ``masked_messages`` are the
    agent's, in them, that must not be trained. ``students``: student -> how many it was trained
    on, where a run's students were trained on parts of it."""

    format: str
    file: str
    mask: str
    trajectories: int
    rows: int
    masked_messages: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    students: Mapping[str, int] = field(default_factory=dict)

    @property
    def warning(self) -> str:
        """What a person has to know before training on it; "" if nothing."""
        if self.format == "trl-dpo":
            return _READ[self.format]
        if self.format not in _FLAGS_ALONE or not self.masked_messages:
            return ""
        return f"{self.masked_messages} messages have loss false. {_READ[self.format]}"


@dataclass(slots=True)
class Facts:
    """What the rows of datasets have in common and what not: name of a fact -> value -> rows."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    rows: int = 0
    kept: int = 0
    turns: int = 0
    errors: int = 0
    corrections: int = 0
    reward: float = 0.0

    def add(self, row: Mapping[str, Any]) -> None:
        """One row of a dataset; of a dropped one only the reason counts."""
        self.rows += 1
        if not row["keep"]:
            self.counts["drop_reason"][row["drop_reason"]] += 1
            return
        self.kept += 1
        self.turns += row["n_turns"]
        self.errors += row["errors"]
        self.corrections += row["corrections"]
        self.reward += row["reward"]
        for name in ("env", "split", "task_type", "outcome"):
            self.counts[name][row[name]] += 1
        for name, value in row["provenance"].items():
            if name != "data_hash":  # one for each task
                self.counts[name][str(value)] += 1
        self.counts["instruction"][content_hash(row["instruction"], 12)] += 1
        spec = json.loads(row["spec"]) if row["spec"] else {}
        for name in ("on_error", "style", "imported"):
            if name in spec:
                self.counts[name][str(spec[name])] += 1


def facts_of(folders: Sequence[Place]) -> Facts:
    """Counts the rows of published datasets; an id that occurs in several counts once."""
    facts, seen = Facts(), set[str]()
    for folder in folders:
        for row in store.read_rows(folder, _COLUMNS):
            if row["id"] not in seen:
                seen.add(row["id"])
                facts.add(row)
    return facts


def card(folders: Sequence[Place], exported: Exported) -> str:
    """The card of an export of datasets."""
    facts = facts_of(folders)
    return f"{_metadata(facts, exported)}\n{_body(facts, exported, folders)}"


def _metadata(facts: Facts, exported: Exported) -> str:
    envs = [env for env in sorted(facts.counts["env"]) if re.fullmatch(r"[a-z][a-z0-9_-]*", env)]
    size = next((name for limit, name in _SIZES if exported.rows < limit), "1B<n<10B")
    metadata = {
        "pretty_name": f"Agent trajectories: {', '.join(envs) or 'text environments'}",
        "language": ["en"],
        "task_categories": ["text-generation"],
        "tags": ["agent", "trajectories", "self-reflection", "step-ray", *envs],
        "size_categories": [size],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": exported.file}],
            }
        ],
    }
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=False)}---\n"


def _body(facts: Facts, exported: Exported, folders: Sequence[Place]) -> str:
    counts, run = facts.counts, _run_of(folders)
    hashes = {folder.name: store.read_manifest(folder).content_hash for folder in folders}
    table = {
        "trajectories": exported.trajectories,
        "rows": exported.rows,
        "turns": facts.turns,
        "turns that a teacher flagged": facts.errors,
        "corrections": facts.corrections,
        "mean reward": f"{facts.reward / max(1, facts.kept):.3f}",
    }
    left_out = {f"left out of this format: {why}": n for why, n in exported.left_out.items()}
    dropped = {f"dropped: {why}": n for why, n in counts["drop_reason"].most_common()}
    made = {
        "environment": "env",
        "engine": "env_build",
        "action dialect": "dialect",
        "split": "split",
        "task type": "task_type",
        "outcome": "outcome",
        "instruction (hash)": "instruction",
        "student": "student",
        "teacher": "teacher",
        "version of the teacher's prompts": "prompt_version",
        "sampling": "sampling",
        "seed": "seed",
        "after an error": "on_error",
        "style of corrections": "style",
        "imported from": "imported",
        "step-ray": "code_version",
    }
    lines = [
        "# Agent trajectories",
        "",
        f"Made by step-ray {__version__}: an agent acts in a text environment, a teacher reviews "
        f"its turns. {_MASKS.get(exported.mask, '')}",
        "",
        "## What is in it",
        "",
        *_table("", {**table, **left_out, **dropped}),
        "",
        "Turns, corrections and reward are those of all kept trajectories.",
        "",
        "## How to read it",
        "",
        f"Format {code(exported.format)}, mask {code(exported.mask)}: "
        f"{_READ.get(exported.format, '')}",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'rows = load_dataset("PATH_OF_THIS_FOLDER", split="train")',
        "```",
        "",
        "## How it was made",
        "",
        *_table("rows", {name: _values(counts[key]) for name, key in made.items() if counts[key]}),
        "",
        "A model is named by the hash of its files, the expert by `expert`.",
        "",
        *_told(run, folders),
        "## How to replay it",
        "",
        "Every trajectory is a list of actions that the engine named above answers the same way "
        "again. `step-ray verify RUN` replays all of a run; one by one:",
        "",
        "```python",
        "import step_ray",
        "from step_ray.envs.base import Task",
        "",
        _make_env(run),
        "for one in step_ray.read(DATASET):",
        "    env.reset(Task(one.task, one.env, one.split, one.task_type), one.provenance.seed)",
        "    for action in one.executed_actions:",
        "        result = env.step(action)",
        "    assert result.reward == one.reward",
        "```",
        "",
        "The datasets that this export was made from, by the hash of their content:",
        "",
        *(f"- {code(name)}: {code(value)}" for name, value in hashes.items()),
        "",
        "## Licence",
        "",
        *(f"- {_LICENCES[env]}" for env in sorted(counts["env"]) if env in _LICENCES),
        "- Text that a model wrote may be subject to the terms of that model.",
        "- No licence is stated for the whole: add `license:` to the metadata before publishing.",
        "",
    ]
    return "\n".join(lines)


def _run_of(folders: Sequence[Place]) -> Path | None:
    """The run that the datasets are stages of, if they are."""
    first = folders[0]
    if not isinstance(first, Path):  # a copy in an object store stands alone
        return None
    known = (first.parent / CONFIG).exists() and (first / STAGE).exists()
    return first.parent if known else None


def _told(run: Path | None, folders: Sequence[Place]) -> list[str]:
    """What the run adds: its settings, and what its stages took and cost. No paths or addresses."""
    if run is None:
        return []
    config, stages = read_json(run / CONFIG), read_run(run).get("stages", {})
    told = {
        "environment": config.get("env"),
        "student": _model(config.get("student", {})),
        "teacher": {
            "type": config.get("teacher", {}).get("type"),
            "model": _model(config.get("teacher", {}).get("model") or {}) or None,
        },
        "stages": {folder.name: _cost(stages.get(folder.name, {})) for folder in folders},
    }
    # JSON puts no line break into a string, so that nothing in it can end the block.
    return ["```json", json.dumps(_without_paths(told), indent=2), "```", ""]


def _model(section: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: section.get(name) for name in ("backend", "model", "adapter") if section.get(name)
    }


def _cost(record: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds of a stage, by phase; what its models were asked and cost; how environments fared."""
    outputs = record.get("outputs", {})
    asked = {
        name: outputs[name]["value"]
        for name in ("student", "teacher", "environments")
        if outputs.get(name, {}).get("value")
    }
    return {name: record.get(name) for name in ("seconds", "seconds_by_phase")} | asked


def _make_env(run: Path | None) -> str:
    """The line that makes the environment again; a person fills in what is not known."""
    try:
        env = RunConfig.model_validate(read_json(run / CONFIG)).env if run is not None else None
    except ValidationError:  # of another version
        env = None
    if env is None:
        return "env = step_ray.make_env(NAME, **OPTIONS)  # the environment above"
    folders = {name: f"FOLDER_OF_ITS_{name.upper()}" for name in env.folders()}
    given = _without_paths(env.options()) | folders
    options = "".join(f", {name}={value!r}" for name, value in given.items())
    return f"env = step_ray.make_env({env.name!r}{options})"


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    return Path(value).name if isinstance(value, str) and value[:1] in "/~." else value


def _table(heading: str, rows: Mapping[str, Any]) -> list[str]:
    return [
        f"| | {heading} |",
        "|---|---|",
        *(f"| {plain(name)} | {value} |" for name, value in rows.items()),
    ]


def _values(counts: Counter[str]) -> str:
    shown = [
        f"{code(value) if value else '(none)'} {count}" for value, count in counts.most_common()
    ]
    more = f", and {len(shown) - _SHOWN} others" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def code(text: str) -> str:
    """Any text as one short span of code that nothing in it can end, in a table or outside."""
    shown = "".join(char if char.isprintable() else " " for char in text)[:120]
    return "`" + (shown.replace("`", "'").replace("|", "¦").strip() or " ") + "`"


def plain(text: str) -> str:
    """Text of a reason or a name without anything that Markdown or HTML gives a meaning to."""
    return re.sub(r"[^\w .,:()'-]", " ", text)[:120]
