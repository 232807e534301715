"""Every row of the WebShop judge's table, and what must not be called an error."""

from __future__ import annotations

import random
from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webshop_play import Visit, generated_shop
from webshop_shops import Structures, item, told, wish

from step_ray.envs.base import Judgement
from step_ray.envs.webshop.engine import Engine
from step_ray.envs.webshop.goals import GoalKind
from step_ray.envs.webshop.judge import judge
from step_ray.teacher.base import Hint, ReviewRequest
from step_ray.teacher.expert import ExpertTeacher

CHOICES = {"Color": ["Red", "Green"], "Size": ["Small", "Big"]}
WOOD = {"small_description": ["made of solid wood"]}
SEATS: Structures = (
    [
        item("B000000001", "Oak Chair Wide", options=CHOICES, **WOOD),
        item("B000000002", "Oak Chair Noble", options=CHOICES, pricing="$240.0", **WOOD),
        item("B000000003", "Oak Chair Light", options=CHOICES),
        item("B000000004", "Oak Chair Grey", options={"Color": ["Grey", "Blue"]}, **WOOD),
        item("B000000005", "Mug of Clay", query="mugs", product_category="Kitchen › Mugs"),
        item("B000000006", "Oak Chair Twin", options=CHOICES, **WOOD),
        item("B000000007", "Velvet Armchair", options=CHOICES, query="armchairs"),
        *(item(f"C{number:09}", f"Folding Chair Number {number}") for number in range(14)),
    ],
    {"B000000001": wish("solid wood", text="Find me solid wood chairs")},
    {"B000000007": [told("B000000007", "i need a velvet armchair", ["easy to clean"], ["green"])]},
)
RIGHT, TWIN = "click[b000000001]", "click[b000000006]"
CHAIRS, MUGS = "search[oak chairs]", "search[mug of clay]"
ON_RIGHT = (CHAIRS, RIGHT)
ALL_CHOSEN = (*ON_RIGHT, "click[red]", "click[small]")


@cache
def shop(goals: GoalKind = "synthetic") -> Engine:
    return Engine.from_catalogue(*SEATS, goals=goals, price_seed=1)


def goal_of(engine: Engine) -> int:
    """The goal for a small red chair (or the only human one)."""
    return next(
        number
        for number, goal in enumerate(engine.goals)
        if engine.goals.kind == "human" or {"red", "small"} <= {value for _, value in goal.options}
    )


def after(*steps: str, goals: GoalKind = "synthetic", memory: bool = True) -> Visit:
    engine = shop(goals)
    visit = Visit(engine.session(goal_of(engine)), memory)
    for step in steps:
        assert visit.step(step), step
    return visit


def judged(visit: Visit, action: str) -> Judgement:
    before = visit.session.url, visit.session.observation
    judgement = judge(visit.session, visit.engine, action, visit.visited)
    assert (visit.session.url, visit.session.observation) == before
    return judgement


def cause(judgement: Judgement) -> str:
    return dict(judgement.facts).get("cause", "")


@pytest.mark.parametrize(
    ("steps", "action", "why"),
    [
        ((), "", "no_command"),
        ((), "buy the chair", "no_command"),
        ((), "think[what now]", "no_command"),
        ((), "search[]", "no_command"),
        ((), "click[search]", "search_words"),
        ((), "click[buy now]", "only_search"),
        ((CHAIRS,), "click[buy now]", "not_listed"),
        ((CHAIRS,), "click[b000000005]", "not_listed"),
        ((CHAIRS,), "click[< prev]", "not_listed"),
        (ON_RIGHT, "click[blue]", "no_such_option"),
        (ON_RIGHT, "click[next >]", "no_such_option"),
        ((*ON_RIGHT, "click[features]"), "click[buy now]", "on_sub_page"),
        ((*ON_RIGHT, "click[features]"), "click[red]", "on_sub_page"),
        ((*ALL_CHOSEN, "click[buy now]"), "click[buy now]", "over"),
    ],
)
def test_what_changes_nothing_is_invalid(steps: tuple[str, ...], action: str, why: str) -> None:
    judgement = judged(after(*steps), action)
    assert (judgement.kind, cause(judgement)) == ("invalid", why)
    assert not judgement.irreversible


@pytest.mark.parametrize(
    ("steps", "action", "kind", "why"),
    [
        # loop
        ((MUGS,), MUGS, "loop", "same_results"),
        ((MUGS, "click[back to search]"), MUGS, "loop", "searched"),
        ((MUGS, "click[b000000005]", "click[< prev]"), "click[b000000005]", "loop", "opened"),
        ((CHAIRS, "click[b000000003]", "click[< prev]"), "click[b000000003]", "loop", "opened"),
        ((*ON_RIGHT, "click[features]", "click[< prev]"), "click[features]", "loop", "read"),
        ((*ON_RIGHT, "click[reviews]", "click[< prev]"), "click[reviews]", "loop", "read"),
        ((*ON_RIGHT, "click[red]"), "click[red]", "loop", "chosen"),
        # wrong_query
        ((), MUGS, "wrong_query", "unrelated"),
        ((), "search[velvet]", "wrong_query", "unrelated"),
        ((), "search[gold fork]", "wrong_query", "unrelated"),
        # wrong_object
        ((CHAIRS,), "click[b000000002]", "wrong_object", "wrong_price"),
        ((MUGS,), "click[b000000005]", "wrong_object", "wrong_type"),
        ((CHAIRS, "click[b000000002]"), "click[red]", "wrong_object", "wrong_product"),
        ((CHAIRS, "click[b000000004]"), "click[grey]", "wrong_object", "wrong_product"),
        # wrong_option
        (ON_RIGHT, "click[green]", "wrong_option", "not_asked_for"),
        ((*ON_RIGHT, "click[red]"), "click[big]", "wrong_option", "not_asked_for"),
        (ALL_CHOSEN, "click[big]", "wrong_option", "not_asked_for"),
        # undo
        (ON_RIGHT, "click[< prev]", "undo", "leaves_right"),
        (ON_RIGHT, "click[back to search]", "undo", "leaves_right"),
        (ALL_CHOSEN, "search[chairs]", "undo", "leaves_right"),
        ((CHAIRS, TWIN), "click[< prev]", "undo", "leaves_right"),
        ((*ON_RIGHT, "click[features]"), "click[back to search]", "undo", "leaves_right"),
        # detour
        ((CHAIRS,), "click[next >]", "detour", "listed"),
        ((CHAIRS,), "click[back to search]", "detour", "listed"),
        ((CHAIRS,), "search[solid wood chairs]", "detour", "listed"),
        ((MUGS,), "click[next >]", "detour", "last_page"),
    ],
)
def test_reversible_errors(steps: tuple[str, ...], action: str, kind: str, why: str) -> None:
    judgement = judged(after(*steps), action)
    assert judgement.is_error
    assert (judgement.kind, cause(judgement)) == (kind, why)
    assert not judgement.irreversible
    assert all(dict(judgement.facts)[name] for name in ("why", "do", "did"))


@pytest.mark.parametrize(
    ("steps", "kind", "why", "says"),
    [
        (ON_RIGHT, "wrong_option", "not_chosen", "the color red is not chosen"),
        ((*ON_RIGHT, "click[red]"), "wrong_option", "not_chosen", "the size small"),
        (
            (*ON_RIGHT, "click[red]", "click[big]"),
            "wrong_option",
            "wrong_chosen",
            "the size is big and the task asks for small",
        ),
        ((CHAIRS, "click[b000000002]"), "wrong_object", "wrong_product", "it costs $240.0"),
        ((CHAIRS, "click[b000000003]"), "wrong_object", "wrong_product", '"solid wood"'),
        ((CHAIRS, "click[b000000004]"), "wrong_object", "wrong_product", "not offered in red"),
        ((MUGS, "click[b000000005]"), "wrong_object", "wrong_product", "something else"),
    ],
)
def test_a_bad_purchase_is_irreversible(
    steps: tuple[str, ...], kind: str, why: str, says: str
) -> None:
    visit = after(*steps)
    judgement = judged(visit, "click[buy now]")
    assert (judgement.kind, cause(judgement)) == (kind, why)
    assert judgement.irreversible
    assert says in dict(judgement.facts)["why"]
    visit.step("click[buy now]")
    assert visit.session.reward < 1


@pytest.mark.parametrize(
    ("steps", "action"),
    [
        ((), CHAIRS),
        ((), "search[something to sit on at the table chairs]"),
        ((), "search[wide]"),  # finds it, whatever the words
        ((MUGS,), "click[back to search]"),
        ((MUGS,), CHAIRS),
        ((CHAIRS,), RIGHT),
        ((CHAIRS,), TWIN),  # as good as the goal's own
        ((CHAIRS,), "click[b000000003]"),  # its title does not say what it lacks
        ((CHAIRS,), "click[b000000004]"),  # nor that it has no red
        ((CHAIRS, "click[b000000003]"), "click[features]"),
        ((CHAIRS, "click[b000000003]"), "click[red]"),
        ((CHAIRS, "click[b000000003]"), "click[< prev]"),
        ((CHAIRS, "click[b000000003]"), "click[back to search]"),
        ((CHAIRS, "click[b000000003]", "click[features]"), "click[< prev]"),
        (ON_RIGHT, "click[description]"),
        ((*ON_RIGHT, "click[description]"), "click[< prev]"),
        (ON_RIGHT, "click[red]"),
        (ON_RIGHT, "click[small]"),  # in any order
        ((*ON_RIGHT, "click[big]"), "click[small]"),
        ((*ALL_CHOSEN,), "click[features]"),
        (ALL_CHOSEN, "click[buy now]"),
        ((CHAIRS, TWIN, "click[red]", "click[small]"), "click[buy now]"),
        ((CHAIRS, "click[b000000003]", "click[< prev]"), RIGHT),
    ],
)
def test_sensible_shopping_is_no_error(steps: tuple[str, ...], action: str) -> None:
    assert judged(after(*steps), action) == Judgement(False)


def test_the_next_page_is_right_when_nothing_on_this_one_fits() -> None:
    visit = after("search[folding chair number]")
    right = visit.engine.find(["folding", "chair", "number"]).index(0)
    assert 10 <= right < 20
    assert not judged(visit, "click[next >]").is_error
    visit.step("click[next >]")
    assert judged(visit, "click[< prev]").kind == "detour"
    visit.step("click[< prev]")
    assert not judged(visit, "click[next >]").is_error  # seen, but there it is


def test_seen_pages_of_results_without_a_fit_are_a_loop() -> None:
    engine = generated_shop()
    found = 0
    for number in range(200):
        visit = Visit(engine.session(number))
        visit.step("search[black white red]")
        if judged(visit, "click[next >]").is_error:
            continue  # listed by chance
        visit.step("click[next >]")
        judgement = judged(visit, "click[< prev]")
        if judgement.kind == "detour":
            continue
        assert (judgement.kind, cause(judgement)) == ("loop", "same_results")
        found += 1
    assert found >= 100


def test_an_option_the_task_does_not_mention_is_free_once() -> None:
    visit = after("search[velvet armchair]", "click[b000000007]", goals="human")
    assert not judged(visit, "click[big]").is_error
    visit.step("click[big]")
    judgement = judged(visit, "click[small]")
    assert (judgement.kind, cause(judgement)) == ("detour", "unimportant")


def test_without_memory_only_the_present_page_counts() -> None:
    steps = (*ON_RIGHT, "click[features]", "click[< prev]")
    assert judged(after(*steps), "click[features]").kind == "loop"
    assert not judged(after(*steps, memory=False), "click[features]").is_error
    assert judged(after(*ON_RIGHT, memory=False), "click[< prev]").kind == "undo"


@pytest.mark.parametrize("kind", ["synthetic", "human"])
def test_the_experts_own_turns_are_never_errors(kind: GoalKind) -> None:
    engine = generated_shop(kind)
    rng = random.Random(0)
    for number in rng.sample(range(len(engine.goals)), 150):
        visit = Visit(engine.session(number), memory=number % 2 == 0)
        visit.get_lost(random.Random(number), number % 10)
        while (turn := visit.expert()) is not None:
            assert judged(visit, turn.action) == Judgement(False), turn.action
            visit.step(turn.action)
        assert visit.session.reward == 1.0


def test_judgements_hold_against_what_happens() -> None:
    """At random: invalid is what the session refuses; irreversible what ends with less than 1."""
    engine = generated_shop()
    rng = random.Random(1)
    kinds = Counter[str]()
    for number in rng.sample(range(len(engine.goals)), 250):
        visit = Visit(engine.session(number))
        for _ in range(10):
            action = visit.random_action(rng)
            if rng.random() < 0.1 and "buy now" in visit.session.clickables:
                action = "click[buy now]"
            judgement = judged(visit, action)
            trial = visit.session.fork()
            _, done, valid = trial.step(action)
            assert (judgement.kind == "invalid") == (not valid), action
            assert judgement.irreversible == (done and trial.reward < 1), action
            kinds[judgement.kind] += 1
            if not done:
                visit.step(action)
    assert set(kinds) == {
        *("", "invalid", "loop", "wrong_query", "wrong_object", "wrong_option", "undo", "detour")
    }


@given(action=st.text(max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_text_can_be_judged(action: str) -> None:
    for steps in ((), (CHAIRS,), ON_RIGHT, (*ON_RIGHT, "click[features]")):
        for text in (action, f"search[{action}]", f"click[{action}]"):
            visit = after(*steps)
            judgement = judged(visit, text)
            assert (judgement.kind == "invalid") == (not visit.step(text))


async def _reviewed(visit: Visit, action: str, executed: bool) -> str:
    turn = visit.expert()
    assert turn is not None
    hint = Hint(judged(visit, action), turn.thought, turn.action)
    request = ReviewRequest("", "", (), "", action, hint, "key", executed)
    review = await ExpertTeacher().review(request)
    return f"{review.error} {review.reason}"


@pytest.mark.parametrize("executed", [True, False])
def test_the_expert_teacher_can_word_it(executed: bool) -> None:
    import asyncio

    said = asyncio.run(_reviewed(after(*ON_RIGHT), "click[green]", executed))
    assert "The task asks for color red, not green." in said
    said = asyncio.run(_reviewed(after(MUGS), "click[b000000005]", executed))
    assert "It is something else than chairs." in said
