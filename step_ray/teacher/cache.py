"""Replies that were paid for are kept: a request that was answered is not sent again. Equal ones
that wait for their answers at the same time are all sent; the first answer is kept for all.

A file of SQLite that any number of processes may share, on several machines too if the file system
locks files for all of them, as NFS 4 does. So its journal is a rollback journal: the faster WAL is
for the processes of one machine. What is kept is the reply as it came, usable or not.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from step_ray.models.base import ChatModel, ModelUnavailable, Reply, Sampling
from step_ray.models.traffic import Traffic
from step_ray.trajectory import content_hash

FILE = "replies.sqlite"
BUSY = 60.0  # seconds that a write waits for those of other processes
_TABLE = (
    "CREATE TABLE IF NOT EXISTS replies_1 (key TEXT PRIMARY KEY, model TEXT NOT NULL,"
    " prompt_version TEXT NOT NULL, reply TEXT NOT NULL, made REAL NOT NULL) WITHOUT ROWID"
)


class CachedModel:
    """A :class:`ChatModel` in front of another: asks it only what nobody has asked before.

    ``folder`` is made if need be. The key is the hash of the model's fingerprint,
    ``prompt_version``, sampling, messages and schema. Refusals and failures are not kept.
    """

    def __init__(self, model: ChatModel, folder: str | Path, prompt_version: str = "") -> None:
        self.model, self.folder, self.prompt_version = model, Path(folder), prompt_version
        self.fingerprint = model.fingerprint
        self._traffic = Traffic()
        self._lock = threading.Lock()
        self._connection: tuple[int, sqlite3.Connection] | None = None

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """The reply of before, or a new one. Raises what the model raises, and
        :class:`ModelUnavailable` if the file cannot be used."""
        key = content_hash(
            {
                "model": self.fingerprint,
                "prompt_version": self.prompt_version,
                "sampling": asdict(sampling),
                "messages": [dict(message) for message in messages],
                "schema": schema,
            },
            64,
        )
        found = await asyncio.to_thread(self._get, key)
        if found is not None:
            self._traffic += Traffic(hits=1)
            return found
        reply = await self.model.chat(messages, sampling, schema)
        self._traffic = self._traffic.and_reply(reply)
        return await asyncio.to_thread(self._put, key, reply)

    def traffic(self) -> Traffic:
        """The model's traffic and the hits. What was found here cost nothing."""
        own = getattr(self.model, "traffic", None)
        if own is None:
            return self._traffic
        below: Traffic = own()
        return below + Traffic(hits=self._traffic.hits)

    def close(self) -> None:
        """Closes the file; the next chat opens it again."""
        with self._lock:
            if self._connection is not None and self._connection[0] == os.getpid():
                self._connection[1].close()
            self._connection = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connection": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def _get(self, key: str) -> Reply | None:
        rows = self._do("SELECT reply FROM replies_1 WHERE key = ?", (key,))
        return Reply(**json.loads(rows[0][0])) if rows else None

    def _put(self, key: str, reply: Reply) -> Reply:
        """Keeps a reply; if somebody was faster, theirs is the one that counts."""
        row = (key, self.fingerprint, self.prompt_version, json.dumps(asdict(reply)), time.time())
        self._do("INSERT OR IGNORE INTO replies_1 VALUES (?, ?, ?, ?, ?)", row)
        return self._get(key) or reply

    def _do(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            with self._lock:
                return self._open().execute(statement, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise ModelUnavailable(
                f"reply cache {self.folder / FILE}: {error}; it has to lie in a writable folder "
                "where locks work (teacher.cache_folder), and may be deleted"
            ) from error

    def _open(self) -> sqlite3.Connection:
        """This process's connection: one must not be taken along through a fork."""
        if self._connection is None or self._connection[0] != os.getpid():
            self.folder.mkdir(parents=True, exist_ok=True)
            made = sqlite3.connect(
                self.folder / FILE, timeout=BUSY, isolation_level=None, check_same_thread=False
            )
            made.execute("PRAGMA journal_mode = TRUNCATE")
            made.execute("PRAGMA synchronous = NORMAL")
            made.execute(_TABLE)
            self._connection = (os.getpid(), made)
        return self._connection[1]
