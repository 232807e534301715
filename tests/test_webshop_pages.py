"""Pages as text: compared with what the original showed of our own, oddest products."""

from __future__ import annotations

import json
import lzma
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from webshop_shops import CHAIRS, chairs, item

from step_ray.envs.webshop.engine import Engine
from step_ray.envs.webshop.goals import GoalKind
from step_ray.envs.webshop.pages import Mode
from step_ray.envs.webshop.session import Session

VISITS = Path(__file__).parent / "golden" / "webshop" / "visits.json.xz"


@cache
def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lzma.decompress(VISITS.read_bytes()))
    return found


@cache
def odd_shop(goals: GoalKind) -> Engine:
    return Engine.from_catalogue(*recorded()["catalogue"], goals=goals)


def page(*actions: str, mode: Mode = "text", **fields: Any) -> str:
    """The page that actions lead to in a shop with one more product."""
    shop = Engine.from_catalogue([item("B1", "Oak", **fields)], *CHAIRS[1:])
    session = Session(shop, chairs().goals[0], mode)
    for action in actions:
        assert session.step(action)[2], action
    return session.observation


def test_the_recording_is_worth_comparing() -> None:
    visits = recorded()["visits"]
    pages = [step[1] for visit in visits for step in visit["steps"]]
    assert len(pages) > 500
    assert Counter((visit["goals"], visit["mode"]) for visit in visits) == {
        (goals, mode): 15 for goals in ("synthetic", "human") for mode in ("text", "text_rich")
    }
    for sign in (
        "You have clicked",
        "[clicked button]",
        "Your score",
        "İ",
        "日本",
        "<b>x</b>",
        "\\u003",
    ):
        assert any(sign in page for page in pages), sign


@pytest.mark.parametrize("mode", ["text", "text_rich"])
@pytest.mark.parametrize("goals", ["synthetic", "human"])
def test_pages_are_the_originals(goals: GoalKind, mode: Mode) -> None:
    for visit in recorded()["visits"]:
        if (visit["goals"], visit["mode"]) != (goals, mode):
            continue
        session = odd_shop(goals).session(visit["goal"], mode)
        assert session.observation == visit["first"]
        for action, *expected in visit["steps"]:
            reward, done, _ = session.step(action)
            shown = [session.clickables, session.has_search_bar]
            assert [session.observation, reward, done, *shown] == expected, action


def test_the_pages_of_a_visit() -> None:
    wish = chairs().goals[0].instruction
    head = f"Instruction: [SEP] {wish} [SEP]"
    item_page = f"{head} Back to Search [SEP] < Prev [SEP]"
    assert page() == f"WebShop [SEP] {head} Search"
    assert page("search[oak]") == (
        f"{head} Back to Search [SEP] Page 1 (Total results: 1) [SEP] Next > [SEP] B1 [SEP] Oak "
        "[SEP] $24.5"
    )
    assert page("search[oak]", "click[b1]", options={"Color": ["Red", "A/B"]}) == (
        f"{item_page} color [SEP] red [SEP] a | b [SEP] Oak [SEP] Price: $24.5 [SEP] Rating: N.A. "
        "[SEP] Description [SEP] Features [SEP] Reviews [SEP] Buy Now"
    )
    sub = page(
        "search[oak]", "click[b1]", "click[features]", small_description=["a", " ", "\n", ""]
    )
    assert sub == f"{item_page} a [SEP]  [SEP] "
    assert page("search[oak]", "click[b1]", "click[reviews]") == item_page.removesuffix(" [SEP]")


def test_clicked_things_are_marked_in_rich_text() -> None:
    choose = ("search[oak]", "click[b1]", "click[red]", "click[small]")
    options = {"Color": ["Red", "Café"], "Size": ["Small"]}
    lines = page(*choose, mode="text_rich", options=options).splitlines()
    assert lines[:2] == ["You have clicked small.", "You have clicked red."]
    assert "  [clicked button] red [clicked button_]" in lines
    assert "  [button] café [button_]" in lines
    accent = page(*choose[:2], "click[café]", mode="text_rich", options=options)
    assert "  [button] café [button_]" in accent  # the address escapes it, so it is never found
    quoted = page('search["red" oak]', "click[b1]", mode="text_rich", options=options)
    assert quoted.startswith("You have clicked red.\n")
    seen = page(*choose, "click[< prev]", mode="text_rich", options=options)
    assert "\n\n[clicked button] B1 [clicked button_]\nOak\n" in seen


def test_the_receipt_escapes_what_was_chosen() -> None:
    buy = ("search[oak]", "click[b1]", "click[<it's> & é]", "click[buy now]")
    text = page(*buy, options={"Style": ["<It's> & É"]})
    assert r'{"style": "\u003cit\u0027s\u003e \u0026 \u00e9"} [SEP] attrs' in text
