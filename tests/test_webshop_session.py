"""A visit to the shop: where actions lead, what they leave alone, copies of it."""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webshop_shops import CHAIRS, chairs, item

from step_ray.envs.webshop.engine import Engine
from step_ray.envs.webshop.generate import generate_catalogue
from step_ray.envs.webshop.pages import Mode
from step_ray.envs.webshop.session import Session, parse_action


def visit(*actions: str, mode: Mode = "text", shop: Engine | None = None) -> Session:
    session = (shop or chairs()).session(0, mode)
    for action in actions:
        assert session.step(action)[2], action
    return session


def fields(session: Session) -> dict[str, Any]:
    return {f.name: getattr(session, f.name) for f in dataclasses.fields(session)}


@pytest.mark.parametrize(
    ("action", "parsed"),
    [
        ("search[Red Chair]", ("search", "red chair")),
        ("click[a] and more", ("click", "a")),
        ("click[a[b]]", ("click[a", "b]")),
        ("search[]", None),
        ("search", None),
        ("[x]", None),
        ("click[a\nb]", None),
        ("", None),
    ],
)
def test_actions_are_parsed_as_the_original_does(
    action: str, parsed: tuple[str, str] | None
) -> None:
    assert parse_action(action) == parsed


@settings(deadline=None)
@given(st.text(alphabet="a[]\n", max_size=12))
def test_the_parser_is_the_originals_pattern(action: str) -> None:
    match = re.match(r"(.+)\[(.+)\]", action)
    assert parse_action(action) == (match and match.groups())


def test_long_nonsense_is_parsed_at_once() -> None:
    assert parse_action("x]" + "[" * 200_000) is None


def test_the_way_to_a_purchase() -> None:
    session = visit("search[red oak chair]")
    assert (session.page, session.number, session.keywords) == (
        "results",
        1,
        ("red", "oak", "chair"),
    )
    assert session.shown == session.hits[:10]
    session.step("click[B000000001]")
    assert (session.page, session.asin, session.options) == ("item", "B000000001", {})
    session.step("click[light blue]")
    session.step("click[small]")
    session.step("click[red]")
    assert session.options == {"color": "red", "size": "small"}
    for name in ("description", "features", "reviews"):
        session.step(f"click[{name}]")
        assert (session.page, session.sub.lower()) == ("sub", name)
        session.step("click[< prev]")
        assert (session.page, session.options) == ("item", {"color": "red", "size": "small"})
    reward, done, valid = session.step("click[Buy Now]")
    assert (session.page, done, valid) == ("done", True, True)
    assert 0 < reward == session.reward <= 1
    assert session.admissible() == session.clickables == []
    assert session.step("search[more]") == (reward, True, False)


def test_back_forgets_and_prev_forgets_options() -> None:
    session = visit("search[red oak chair]", "click[next >]", "click[< prev]", "click[b000000001]")
    session.step("click[red]")
    session.step("click[< prev]")
    assert (session.page, session.number, session.product, session.options) == (
        "results",
        1,
        None,
        {},
    )
    assert session.seen == {"B000000001"}
    session.step("click[back to search]")
    assert (session.page, session.keywords, session.seen) == ("search", (), frozenset())
    assert session.has_search_bar


def test_a_search_works_on_every_page() -> None:
    session = visit(
        "search[red oak chair]", "click[b000000001]", "click[red]", "search[steel stool]"
    )
    assert (session.page, session.options) == ("results", {})
    assert session.engine.catalogue[session.hits[0]].asin == "B000000002"


def test_pages_beyond_the_results_are_empty_and_before_them_odd() -> None:
    session = visit(*["search[chair]"], *["click[next >]"] * 9)
    assert (session.number, session.shown) == (10, ())
    assert "click[< prev]" in session.admissible()
    misled = visit("search[search_results red oak]", "click[b000000001]", "click[< prev]")
    assert (misled.page, misled.number) == ("results", 0)  # the address holds the other page's name


def test_equal_values_belong_to_the_last_option() -> None:
    options = {"Color": ["plum", "red"], "Size": ["plum"]}
    shop = Engine.from_catalogue([item("B1", "Oak", options=options)], *CHAIRS[1:])
    session = Session(shop, chairs().goals[0])
    for action in ("search[oak]", "click[b1]", "click[plum]"):
        session.step(action)
    assert session.options == {"size": "plum"}
    assert session.clickables.count("plum") == 1


def test_what_cannot_be_clicked_is_not_admissible() -> None:
    session = visit("search[garden bench]", "click[b000000004]")
    assert {"[odd]", "search", "red"} <= set(session.clickables)
    assert "click[red]" in session.admissible()
    assert not {"click[[odd]]", "click[search]"} & set(session.admissible())
    for action in ("click[[odd]]", "click[search]", "click[blue]", "Click[red]", " click[red]"):
        before = fields(session)
        assert session.step(action) == (0.0, False, False)
        assert fields(session) == before


def test_one_search_is_listed_on_every_page() -> None:
    session = visit()
    words = next(a for a in session.admissible())
    assert words.startswith("search[find me a ")
    assert "dollars" not in words
    assert "lower" not in words
    assert session.admissible() == [words]
    session.step(words)
    assert words in session.admissible()


@cache
def shop() -> Engine:
    return Engine.from_catalogue(*generate_catalogue(80, 3))


@st.composite
def walks(draw: st.DrawFn) -> tuple[Session, list[str]]:
    """A visit after some valid actions, and the actions."""
    mode = draw(st.sampled_from(("text", "text_rich")))
    session = shop().session(draw(st.integers(0, len(shop().goals) - 1)), mode)
    done = []
    for _ in range(draw(st.integers(0, 8))):
        if session.done:
            break
        done.append(draw(st.sampled_from(session.admissible())))
        session.step(done[-1])
    return session, done


TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(max_size=30).map("search[{}]".format),
    st.text(max_size=10).map("click[{}]".format),
    st.sampled_from(("search[<r>]", "search[<c>]", "search[<q>]", "search[<a>]", "search[ ]")),
)


@settings(max_examples=60, deadline=None)
@given(walk=walks(), data=st.data())
def test_a_fork_steps_like_its_original_and_leaves_it_alone(
    walk: tuple[Session, list[str]], data: st.DataObject
) -> None:
    session, _ = walk
    before, shown = fields(session), session.observation
    actions = st.one_of(TEXTS, st.sampled_from(session.admissible() or [""]))
    chosen = data.draw(st.lists(actions, max_size=4))
    child = session.fork()
    answers = [(child.step(action), child.observation) for action in chosen]
    assert fields(session) == before
    assert session.observation == shown
    assert [(session.step(action), session.observation) for action in chosen] == answers


@settings(max_examples=60, deadline=None)
@given(walk=walks())
def test_what_is_admissible_is_valid(walk: tuple[Session, list[str]]) -> None:
    session, _ = walk
    listed = session.admissible()
    assert listed == sorted(set(listed))
    assert all(session.fork().step(action)[2] for action in listed)


@settings(max_examples=100, deadline=None)
@given(walk=walks(), action=TEXTS)
def test_any_other_text_changes_nothing_and_raises_nothing(
    walk: tuple[Session, list[str]], action: str
) -> None:
    session, _ = walk
    before, shown = fields(session), session.observation
    parsed, listed = parse_action(action), session.admissible()
    _, _, valid = session.step(action)
    if valid:
        assert parsed is not None
        assert parsed[0] == "search" or f"click[{parsed[1]}]" in listed
    else:
        assert fields(session) == before
        assert session.observation == shown


@settings(max_examples=30, deadline=None)
@given(walk=walks())
def test_the_same_actions_give_the_same_text(walk: tuple[Session, list[str]]) -> None:
    session, actions = walk
    again = Session(session.engine, session.goal, session.mode)
    for action in actions:
        again.step(action)
    assert again.observation == session.observation
    assert fields(again) == fields(session)
