"""A WebShop expert: the next sensible turn from any page, whatever led there.

It shops as a person does: searches by words of the instruction, pages through the results, opens a
product that can fit, now and then reads what the title does not say, chooses the options asked for
and buys. Which product can fit it knows from the goal; the words of its search are the
instruction's own.

``visited`` (see ``visits``) is what spares it reading a page twice; without it it reads nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from dataclasses import dataclass

from step_ray.envs.webshop import pages
from step_ray.envs.webshop.engine import Engine
from step_ray.envs.webshop.fit import choice, goal_place, lacks, on_page
from step_ray.envs.webshop.goals import Goal
from step_ray.envs.webshop.products import Product
from step_ray.envs.webshop.query import good_query, right_one
from step_ray.envs.webshop.session import Session
from step_ray.envs.webshop.thoughts import thought_of
from step_ray.envs.webshop.visits import Place
from step_ray.trajectory import Turn


@dataclass(frozen=True, slots=True)
class Plan:
    """One action, why (a case of ``thoughts``), and the words or product it is about."""

    case: str
    action: str
    what: str = ""
    product: Product | None = None


def next_turn(
    session: Session, engine: Engine, visited: Collection[Place] | None = None
) -> Turn | None:
    """The expert's turn on the present page; None after the purchase."""
    if session.done:
        return None
    made = plan(session, engine, visited)
    thought = thought_of(session, engine, made.case, made.what, made.product)
    return Turn(thought, made.action, author="expert")


def plan(session: Session, engine: Engine, visited: Collection[Place] | None = None) -> Plan:
    """The expert's next action; the purchase must not be made yet."""
    if session.page == "results":
        return _on_results(session, engine)
    if session.product is not None and session.page == "item":
        return _on_item(session, engine, session.product, visited)
    if session.product is not None and session.page == "sub":
        fit = right_one(session.goal, [session.product], engine)
        return Plan("return" if fit else "return_wrong", _click(pages.PREV), session.sub)
    words = good_query(session.goal, engine, good_rank=2 * session.page_size)
    again = any(place[0] == "results" for place in visited or ())
    return Plan("search_again" if again else "search", f"search[{words}]", words)


def fitting_on_page(session: Session, engine: Engine) -> Product | None:
    """The first product on the present page of results that can be the best buy."""
    shown = (engine.catalogue[place] for place in session.shown)
    return right_one(session.goal, shown, engine)


def page_of_goal(session: Session, engine: Engine) -> int:
    """The page of the present results with the goal's product, from 1; 0 if they lack it."""
    place = goal_place(session.goal, engine)
    return session.hits.index(place) // session.page_size + 1 if place in session.hits else 0


def unsaid(goal: Goal, product: Product) -> tuple[str, str]:
    """An attribute that the title does not name and the page that does; empty if there is none."""
    bullets = " ".join(product.bullets).lower()
    for attribute in goal.attributes:
        if attribute in product.title.lower():
            continue
        if attribute in bullets:
            return attribute, "Features"
        if attribute in product.description.lower():
            return attribute, "Description"
    return "", ""


def _on_results(session: Session, engine: Engine) -> Plan:
    product = fitting_on_page(session, engine)
    if product is not None:
        # its code as the page shows it, which is what an agent copies
        return Plan("open", f"click[{product.asin}]", product=product)
    page = page_of_goal(session, engine)
    if page > session.number:
        return Plan("next", _click(pages.NEXT))
    if page:
        return Plan("previous", _click(pages.PREV))
    return Plan("back", _click(pages.BACK))


def _on_item(
    session: Session, engine: Engine, product: Product, visited: Collection[Place] | None
) -> Plan:
    goal = session.goal
    read = visited is None or any(place[:2] == ("sub", product.asin) for place in visited)
    if right_one(goal, [product], engine) is None:
        hidden = [lack for lack in lacks(goal, product, engine) if not on_page(goal, product, lack)]
        if not read and hidden == lacks(goal, product, engine) and hidden:
            return Plan("check_features", _click("Features"), hidden[0].what, product)
        if page_of_goal(session, engine):
            return Plan("leave", _click(pages.PREV), product=product)
        return Plan("leave_search", _click(pages.BACK), product=product)
    attribute, where = unsaid(goal, product)
    if where and not read and not session.options and _is_careful(goal):
        return Plan(f"check_{where.lower()}", _click(where), attribute, product)
    for name, value in choice(goal, product).items():
        if session.options.get(name) != value:
            case = "change" if name in session.options else "choose"
            return Plan(case, _click(value), name, product)
    return Plan("buy", _click(pages.BUY), product=product)


def _is_careful(goal: Goal) -> bool:
    """Whether the expert reads what the title does not say, which it does for half of the goals."""
    return zlib.crc32(f"{goal.asin}|{goal.instruction}".encode()) % 2 == 0


def _click(name: str) -> str:
    return f"click[{name.lower()}]"
