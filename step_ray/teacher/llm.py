"""A teacher that is a language model, asked with the project's own prompts.

In one call it judges and corrects at once. In two it judges, and is asked for a correction only
when there is something to correct: shorter replies for most turns, and where errors are executed
before they are corrected nothing is said twice.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from step_ray.models.base import (
    ChatModel,
    ModelError,
    ModelUnavailable,
    Reply,
    Sampling,
    SchemaUnsupported,
)
from step_ray.models.traffic import Traffic
from step_ray.teacher.base import ReviewRequest, TeacherError, TeacherUnavailable, one_line
from step_ray.teacher.parsing import ReplyRejected, parse_review
from step_ray.teacher.prompts import Prompts, clean, refused, render, unusable
from step_ray.teacher.schemas import LADDER, Form
from step_ray.trajectory import Review, content_hash

Calls = Literal["one", "two"]
_CORRECTION = ("error", "reason", "reflection", "thought", "action")
_NEXT = {1: "asked for one that bounds no text", 2: "replies are parsed as they come"}
_log = logging.getLogger(__name__)


class LLMTeacher:
    """Reviews turns by asking ``model``.

    ``privileged``: it is told what the environment's judge and expert say. ``show_admissible``: it
    is shown the possible actions. ``attempts``: how often it is asked, as long as replies are no
    reviews. ``constrain``: replies are forced into a JSON schema where the backend can do that;
    one that refuses it is asked with one that bounds no text, then without, from its refusal on,
    and a warning says so. The seed of ``sampling`` is replaced by one that follows from the
    request.
    """

    def __init__(
        self,
        model: ChatModel,
        prompts: Prompts,
        *,
        calls: Calls = "two",
        privileged: bool = False,
        show_admissible: bool = False,
        sampling: Sampling | None = None,
        attempts: int = 3,
        constrain: bool = True,
    ) -> None:
        self.model, self.prompts = model, prompts
        self.calls, self.privileged, self.show_admissible = calls, privileged, show_admissible
        self.sampling = sampling or Sampling(max_tokens=600)
        self.attempts = attempts
        self._rung = 0 if constrain else len(LADDER)
        self.rejections: Counter[str] = Counter()
        self._traffic = Traffic()  # of a model that does not count by itself
        self.prompt_version = prompts.version
        self.fingerprint = content_hash(
            {
                "model": model.fingerprint,
                "calls": calls,
                "privileged": privileged,
                "show_admissible": show_admissible,
                "temperature": self.sampling.temperature,
                "top_p": self.sampling.top_p,
                "max_tokens": self.sampling.max_tokens,
                "attempts": attempts,
                "constrain": constrain,
            },
            64,
        )

    async def review(self, request: ReviewRequest) -> Review:
        """Judges a proposed turn, or corrects one that was executed in error.

        Raises :class:`TeacherUnavailable` if the model cannot be asked, :class:`TeacherError` if it
        refuses, or if none of its replies is a review; the text holds the last one's beginning.
        """
        if request.executed:
            verdict = request.turns[-1].review or Review(is_error=True)
            return await self._correct(request, verdict)
        if request.refused is not None and self.calls == "two":
            return await self._correct(request, request.refused.review)
        if self.calls == "one":
            return await self._ask(request, "review")
        verdict = await self._ask(request, "judge")
        if request.verdict_only or not verdict.is_error:
            return verdict
        return await self._correct(request, verdict)

    async def check(self) -> None:
        """Asks the model itself, past any cache, for a word. Raises :class:`TeacherError` if it
        does not answer: better before a thousand episodes than in each of them."""
        model: ChatModel = getattr(self.model, "model", self.model)
        try:
            await model.chat([{"role": "user", "content": "Say a word."}], Sampling(max_tokens=16))
        except ModelError as failed:
            raise TeacherError(str(failed)) from failed

    def counts(self) -> Mapping[str, float]:
        """What is worth a place in a line of progress, of all requests so far."""
        traffic = getattr(self.model, "traffic", None)
        counted = dict((traffic() if traffic is not None else self._traffic).counts())
        if self.rejections:
            counted["unusable replies"] = self.rejections.total()
        return counted | {f"unusable {why}": n for why, n in sorted(self.rejections.items())}

    async def _correct(self, request: ReviewRequest, verdict: Review) -> Review:
        correction = await self._ask(request, "reflect")
        raw = "\n".join(text for text in (verdict.raw, correction.raw) if text)
        return replace(correction, kind=verdict.kind or "other", raw=raw)

    async def _ask(self, request: ReviewRequest, form: Form) -> Review:
        asked = render(self.prompts, request, form, privileged=self.privileged)
        if request.refused is not None:
            first = request.refused.review
            said = json.dumps({name: getattr(first, name) for name in _CORRECTION})
            asked += refused(said, first.action, request.refused.answer)
        chat, last = asked, ""
        for attempt in range(self.attempts):
            reply, bounded = await self._reply(chat, form, request.key, attempt)
            self._traffic = self._traffic.and_reply(reply)
            try:
                return _usable(reply, form, request, bounded)
            except ReplyRejected as rejected:
                self.rejections[rejected.reason] += 1
                last = f"{rejected.reason}: {rejected}; it begins {clean(reply.text)[:200]!r}"
                chat = [*asked, *unusable(reply.text, str(rejected))]
        raise TeacherError(f"no usable review in {self.attempts} replies; the last is {last}")

    async def _reply(
        self, chat: list[dict[str, str]], form: Form, key: str, attempt: int
    ) -> tuple[Reply, bool]:
        """A reply, and whether a schema bounded its texts."""
        seed = 0
        if self.sampling.temperature > 0:
            seed = int(content_hash([key, form, attempt], 12), 16)
        sampling = replace(self.sampling, seed=seed)
        rung = self._rung
        try:
            while rung < len(LADDER):
                try:
                    return await self.model.chat(chat, sampling, LADDER[rung][form]), rung == 0
                except SchemaUnsupported as refused:
                    rung += 1
                    if rung > self._rung:  # others may have found out meanwhile
                        self._rung = rung
                        _log.warning("%s; %s", refused, _NEXT[rung])
            return await self.model.chat(chat, sampling), False
        except ModelUnavailable as gone:
            raise TeacherUnavailable(str(gone)) from gone
        except ModelError as failed:
            raise TeacherError(str(failed)) from failed


def _usable(reply: Reply, form: Form, request: ReviewRequest, bounded: bool) -> Review:
    """The review in a reply. Raises ReplyRejected."""
    cut = reply.finish_reason == "length"
    review = parse_review(reply.text, form, cut=cut, bounded=bounded)
    if request.settled and request.hint is not None:
        settled = request.hint.expert_action
        if not _alike(review.action, settled):
            raise ReplyRejected("other_action", f"the action has to be {settled!r}", reply.text)
    elif review.action and not request.executed and _alike(review.action, request.action):
        raise ReplyRejected("unchanged", "the corrected action is the erroneous one", reply.text)
    return review


def _alike(one: str, other: str) -> bool:
    return one_line(one).casefold() == one_line(other).casefold()
