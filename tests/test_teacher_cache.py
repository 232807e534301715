"""Nothing is paid for twice, by however many processes."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pickle
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from oracle import Oracle
from strategies import texts

from step_ray.models.base import ModelError, Reply, Sampling
from step_ray.teacher.cache import FILE, CachedModel

SAMPLING = Sampling(0.5, 0.9, 30, 7)


def chat_of(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def counting() -> Oracle:
    """Never says the same twice."""
    model = Oracle(lambda chat: f"{chat[-1]['content']} ({len(model.asked)})")
    return model


def ask(model: CachedModel, text: str = "Well?", **options: Any) -> Reply:
    sampling = options.pop("sampling", SAMPLING)
    return asyncio.run(model.chat(chat_of(text), sampling, options.get("schema")))


def test_the_second_time_is_free(tmp_path: Path) -> None:
    model = counting()
    cached = CachedModel(model, tmp_path / "new" / "folder")
    first = ask(cached)
    assert ask(cached) == first == Reply("Well? (1)", "stop", 10, 5)
    again = CachedModel(counting(), tmp_path / "new" / "folder")
    assert ask(again) == first, "in another process, at another time"
    assert cached.traffic().counts() == {
        "asked": 1,
        "from cache": 1,
        "prompt tokens": 10,
        "reply tokens": 5,
    }
    assert again.traffic().counts() == {"from cache": 1}
    assert len(model.asked) == 1


def test_what_makes_a_request_another_one(tmp_path: Path) -> None:
    model, other = counting(), Oracle(lambda chat: "another model")
    other.fingerprint = "another"
    cached, versions = CachedModel(model, tmp_path), CachedModel(model, tmp_path, "2")
    first = ask(cached)
    for changed in (
        ask(cached, "Well!"),
        ask(cached, sampling=Sampling(0.5, 0.9, 30, 8)),
        ask(cached, sampling=Sampling(0.5, 0.9, 31, 7)),
        ask(cached, schema={"type": "object"}),
        ask(versions),
        ask(CachedModel(other, tmp_path)),
    ):
        assert changed != first
    assert (len(model.asked), len(other.asked)) == (6, 1)
    assert cached.traffic().hits == versions.traffic().hits == 0


@given(texts(), texts())
def test_any_text_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, asked: str, said: str
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    model = CachedModel(Oracle(lambda chat: said), folder)
    asked = f"x{asked}"
    assert ask(model, asked).text == ask(model, asked).text == said
    assert model.traffic().hits == 1
    model.close()


def test_failures_are_not_kept(tmp_path: Path) -> None:
    left: list[Any] = [ModelError("later"), "Yes."]

    def reply(chat: Any) -> str:
        said = left.pop(0)
        if isinstance(said, Exception):
            raise said
        return str(said)

    model = CachedModel(Oracle(reply), tmp_path)
    with pytest.raises(ModelError, match="later"):
        ask(model)
    assert ask(model).text == ask(model).text == "Yes."


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"something else" * 100)
    with pytest.raises(ModelError, match=rf"{FILE}: .*may be deleted"):
        ask(CachedModel(counting(), tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="writable folder"):
        ask(CachedModel(counting(), tmp_path / "file"))


def test_it_can_be_sent_and_reopened(tmp_path: Path) -> None:
    model = CachedModel(counting(), tmp_path)
    first = ask(model)
    model.close()
    assert ask(model) == first
    assert ask(pickle.loads(pickle.dumps(CachedModel(pickled(), tmp_path)))) == first


class Plain:
    fingerprint = "oracle"

    async def chat(self, messages: Any, sampling: Any, schema: Any = None) -> Reply:
        return Reply(f"{messages[-1]['content']} by {os.getpid()}", "stop", 1, 1)


def pickled() -> Plain:
    return Plain()


def work(folder: Path, start: Any, results: Any) -> None:
    model = CachedModel(Plain(), folder)

    async def all_of_them() -> list[str]:
        asked = (model.chat(chat_of(f"q{n}"), SAMPLING) for n in range(100))
        return [reply.text for reply in await asyncio.gather(*asked)]

    start.wait()
    results.put(asyncio.run(all_of_them()))


def test_many_processes_agree(tmp_path: Path) -> None:
    """All of them get the same replies, whoever was first."""
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    model = CachedModel(Plain(), tmp_path)
    ask(model, "before the fork")  # its connection is the parent's alone
    workers = [context.Process(target=work, args=(tmp_path, start, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    start.set()
    found = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert all(each == found[0] for each in found)
    with sqlite3.connect(tmp_path / FILE) as file:
        assert file.execute("SELECT count(*) FROM replies_1").fetchone() == (101,)
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_machines_can_share_it(tmp_path: Path) -> None:
    """WAL, which a file of an older version is in, is for one machine alone."""
    (tmp_path / "old").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "old" / FILE)) as old:
        old.execute("PRAGMA journal_mode = WAL")
    for folder in ("new", "old"):
        model = CachedModel(counting(), tmp_path / folder)
        assert ask(model) == ask(model)
        model.close()
        with contextlib.closing(sqlite3.connect(tmp_path / folder / FILE)) as file:
            assert file.execute("PRAGMA journal_mode").fetchone() != ("wal",)
