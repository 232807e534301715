"""Continuous batching: requests enter and leave a running batch at any step.

A request gets a slot of the key-value cache. Tokens whose keys are already there, left by an
earlier turn of the same episode or present in any other slot, are not computed again. Every step
runs one forward pass over the next token of each row that is generating and over a portion of the
prompts that are still to be read.

A reply depends on nothing but its request. Rounding does depend on what else is in a batch, so
where it could decide between two tokens, the choice is settled by a pass over the request alone.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from transformers import PreTrainedModel

from step_ray.models.base import ModelError, ModelUnavailable, Sampling
from step_ray.models.sampling import Draw, pick
from step_ray.models.slots import ATTENTION, Row, SlotCache, check_faithful, check_supported

# How far logits of the same tokens may differ between two batches, relative to the largest one.
# Several times what was measured; see `tests/test_models_local.py`.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-7}


@dataclass(slots=True)
class Usage:
    """What an engine has done so far."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt tokens: taken from the cache
    completion_tokens: int = 0
    steps: int = 0
    settled: int = 0  # tokens that needed a pass of their own
    seconds: float = 0.0  # time in which there was something to do


@dataclass(slots=True)
class Completion:
    """The tokens of a reply, without the one that ended it."""

    tokens: list[int]
    stopped: bool
    count: int  # with the one that ended it
    cached: int  # tokens of the prompt that were not computed again


@dataclass(slots=True, eq=False)
class _Request:
    prompt: np.ndarray
    sampling: Sampling
    future: Future[Completion]
    generator: torch.Generator | None = None
    made: list[int] = field(default_factory=list)
    cached: int = 0


class Engine:
    """Runs a model in a thread of its own; :meth:`submit` may be called from any thread.

    The engine takes the model over: its attention is replaced until :meth:`close`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        ends: frozenset[int],
        *,
        slots: int,
        max_length: int,
        chunk: int = 512,
        exact: bool | None = None,
    ) -> None:
        check_supported(model)
        tolerance = TOLERANCE.get(model.dtype, 0.0)
        if exact and not tolerance:
            raise ModelError(f"replies in {model.dtype} cannot be made exact; use float32")
        self.exact = bool(tolerance) if exact is None else exact
        self.max_length = max_length
        self._tolerance = tolerance if self.exact else 0.0
        self._model, self._ends, self._chunk = model, ends, chunk
        self._attention = model.config._attn_implementation
        with torch.inference_mode():
            try:
                self._cache = SlotCache(model, slots, max_length)
                check_faithful(model, self._cache)
            except (RuntimeError, TypeError) as error:
                model.set_attn_implementation(self._attention)
                if isinstance(error, ModelError):
                    raise
                raise ModelError(
                    f"{type(model).__name__} cannot run with {slots} slots of {max_length} tokens: "
                    f"{error}"
                ) from error
        # Of each slot: its token ids, how many, how many of them have keys, and who uses it.
        self._tokens = np.zeros((slots, max_length), dtype=np.int64)
        self._length = np.zeros(slots, dtype=np.int64)
        self._filled = np.zeros(slots, dtype=np.int64)
        self._used = np.zeros(slots, dtype=np.int64)
        self._busy: dict[int, _Request] = {}
        self._waiting: deque[_Request] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._usage = Usage()
        self._thread = threading.Thread(target=self._run, name="step-ray-engine", daemon=True)
        self._thread.start()
        # PyTorch aborts the process if the interpreter ends while a thread is inside of it.
        atexit.register(self.close)

    def usage(self) -> Usage:
        """A copy of the counters."""
        return replace(self._usage)

    def submit(self, prompt: list[int], sampling: Sampling) -> Future[Completion]:
        """Queues a request; cancelling the future gives its slot back.

        Raises :class:`ModelError` if the prompt leaves no room for a reply,
        :class:`ModelUnavailable` after close.
        """
        if not prompt or len(prompt) >= self.max_length:
            raise ModelError(
                f"the prompt has {len(prompt)} tokens, the context of {self.max_length} has room "
                f"for 1 to {self.max_length - 1}: shorten the chat or raise max_length"
            )
        request = _Request(np.array(prompt, dtype=np.int64), sampling, Future())
        if sampling.temperature > 0:
            request.generator = torch.Generator().manual_seed(sampling.seed & (2**63 - 1))
        with self._change:
            if self._closed:
                raise ModelUnavailable("the model is closed")
            self._waiting.append(request)
            self._change.notify()
        return request.future

    def close(self) -> None:
        """Stops the thread; requests under way fail. Gives the model back as it was."""
        with self._change:
            self._closed = True
            self._change.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        atexit.unregister(self.close)
        if self._model.config._attn_implementation == ATTENTION:
            self._model.set_attn_implementation(self._attention)

    def _run(self) -> None:
        with torch.inference_mode():
            while True:
                with self._change:
                    while not (self._closed or self._waiting or self._busy):
                        self._change.wait()
                    if self._closed:
                        break
                start = time.perf_counter()
                try:
                    self._drop_cancelled()
                    self._admit()
                    self._step()
                except Exception as error:  # noqa: BLE001 - callers must not wait for ever
                    why = f"the model failed: {type(error).__name__}: {error}"
                    self._fail(ModelUnavailable(why))
                self._usage.seconds += time.perf_counter() - start
        self._fail(ModelUnavailable("the model was closed while it was answering"))

    def _fail(self, error: ModelError) -> None:
        with self._change:
            requests = [*self._busy.values(), *self._waiting]
            self._waiting.clear()
        self._busy.clear()
        self._length[:] = self._filled[:] = 0
        for request in requests:
            if request.future.set_running_or_notify_cancel():
                request.future.set_exception(error)

    # Admission

    def _drop_cancelled(self) -> None:
        for slot in [slot for slot, request in self._busy.items() if request.future.cancelled()]:
            self._release(slot)
        with self._change:
            if any(request.future.cancelled() for request in self._waiting):
                self._waiting = deque(r for r in self._waiting if not r.future.cancelled())

    def _release(self, slot: int) -> None:
        del self._busy[slot]
        self._length[slot] = self._filled[slot]
        self._used[slot] = self._usage.steps

    def _admit(self) -> None:
        """Gives free slots to waiting requests, in order."""
        with self._change:
            waiting = list(self._waiting)
        for request in waiting:
            if len(self._busy) == len(self._used):
                return
            if self._enter(request):
                with self._change:
                    self._waiting.remove(request)

    def _enter(self, request: _Request) -> bool:
        prompt = request.prompt
        # The last token is always computed: its logits are wanted.
        room = len(prompt) - 1
        same = self._tokens[:, :room] == prompt[:room]
        common = np.where(same.all(axis=1), room, same.argmin(axis=1)) if room else self._used * 0
        known = np.minimum(common, self._filled)
        source = int(known.argmax())
        reuse = int(known[source])
        if any(min(common[slot], self._length[slot]) >= reuse + 16 for slot in self._busy):
            # Somebody is reading the same words right now: cheaper to wait than to read them too.
            return False
        target = source
        tail = int(self._filled[source]) - reuse
        if source in self._busy or tail > max(64, request.sampling.max_tokens):
            # More than a reply would be lost there, perhaps another episode's: take the slot that
            # nobody has asked for the longest time, and a copy.
            free = [slot for slot in range(len(self._used)) if slot not in self._busy]
            target = min(free, key=lambda slot: (self._used[slot], slot))
            if reuse > known[target]:
                self._cache.copy(source, target, reuse)
        self._tokens[target, : len(prompt)] = prompt
        self._length[target] = len(prompt)
        self._filled[target] = reuse
        self._busy[target] = request
        self._usage.requests += 1
        self._usage.prompt_tokens += len(prompt)
        self._usage.cached_tokens += reuse
        request.cached = reuse
        return True

    # One step

    def _step(self) -> None:
        rows: list[Row] = []
        left = self._chunk
        for slot in self._busy:
            filled, length = int(self._filled[slot]), int(self._length[slot])
            count = length - filled
            if count > 1:
                count = min(count, left)
                left -= count
            if count:
                rows.append(Row(slot, filled + count, count))
        if not rows:
            return
        batch = self._cache.batch(rows)
        ends = np.cumsum([row.count for row in batch.rows]) - 1
        last = [row.length == self._length[row.slot] for row in batch.rows]
        slots = batch.slots.cpu().numpy()
        ids = torch.from_numpy(self._tokens[slots, batch.positions.cpu().numpy()])
        logits = self._model(
            input_ids=ids.unsqueeze(0).to(self._cache.device),
            position_ids=batch.positions.unsqueeze(0),
            use_cache=False,
            logits_to_keep=torch.from_numpy(ends[last]).to(self._cache.device),
            ragged=batch,
        ).logits[0]
        for row in batch.rows:
            self._filled[row.slot] = row.length
        self._usage.steps += 1
        if any(last):
            done = [row.slot for row, final in zip(batch.rows, last, strict=True) if final]
            self._extend(done, logits.cpu())

    def _extend(self, slots: list[int], logits: torch.Tensor) -> None:
        """Adds a token to each of ``slots``, and ends the replies that are complete."""
        draws = [self._draw(self._busy[slot], logits.shape[1]) for slot in slots]
        picked = pick(logits, draws, self._tolerance)
        for slot, draw, (token, safe) in zip(slots, draws, picked, strict=True):
            if self.exact and not safe:
                token = self._settle(slot, draw)
            request = self._busy[slot]
            request.made.append(token)
            self._usage.completion_tokens += 1
            stopped = token in self._ends
            length = int(self._length[slot])
            if (
                stopped
                or len(request.made) >= request.sampling.max_tokens
                or length + 1 >= self.max_length
            ):
                self._release(slot)
                self._answer(request, stopped)
            else:
                self._tokens[slot, length] = token
                self._length[slot] = length + 1

    def _draw(self, request: _Request, words: int) -> Draw:
        if request.generator is None:
            return Draw()
        noise = torch.rand(words, generator=request.generator, dtype=torch.float64)
        return Draw(request.sampling.temperature, request.sampling.top_p, noise)

    def _settle(self, slot: int, draw: Draw) -> int:
        """The token as it comes out when the request is read from the start and alone."""
        self._usage.settled += 1
        ids = torch.from_numpy(self._tokens[slot, : self._length[slot]]).to(self._cache.device)
        logits = self._model(
            input_ids=ids.unsqueeze(0),
            position_ids=torch.arange(len(ids), device=self._cache.device).unsqueeze(0),
            use_cache=False,
            logits_to_keep=1,
        ).logits[0]
        return pick(logits.cpu(), [draw])[0][0]

    @staticmethod
    def _answer(request: _Request, stopped: bool) -> None:
        if request.future.set_running_or_notify_cancel():
            made = request.made[:-1] if stopped else request.made
            request.future.set_result(Completion(made, stopped, len(request.made), request.cached))
