"""WebShop's pages: what is on them, as text and as things to click.

A page is one list of nodes, the pieces of text that a browser would show, in order. Both of the
original's text observations are made of it: ``text`` joins the pieces by " [SEP] ", ``text_rich``
marks what can be clicked and what has been.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from step_ray.envs.webshop.products import Product

if TYPE_CHECKING:
    from step_ray.envs.webshop.session import Session

Mode = Literal["text", "text_rich"]
PageKind = Literal["search", "results", "item", "sub", "done"]
Node = tuple[Literal["text", "button", "option", "link"], str]

PER_PAGE = 10  # products on a page of results, in the original
SEARCH, BACK, PREV, NEXT, BUY = "search", "back to search", "< prev", "next >", "buy now"
SUB_PAGES = {name.lower(): name for name in ("Description", "Features", "Reviews", "Attributes")}
_ITEM_BUTTONS = ("Description", "Features", "Reviews", "Buy Now")
_NO_RATING = "N.A."  # the original loads no ratings
_BLANK = " \n\t\f\r"


def observation(session: Session) -> str:
    """The present page in the session's observation mode."""
    shown = [(kind, seen) for kind, text in _nodes(session) if (seen := _visible(text))]
    if session.mode == "text":
        return " [SEP] ".join(text.strip() for _, text in shown)
    url = session.url
    clicked, lines = [], []
    for kind, text in shown:
        if kind == "text":
            lines.append(text)
        elif kind == "button":
            lines.append(f"[button] {text} [button_]")
        elif kind == "link":
            done = "clicked " if text in session.seen else ""
            lines.append(f"\n[{done}button] {text} [{done}button_]")
        elif f'"{text}"' in url:
            clicked.append(f"You have clicked {text}.\n")
            lines.append(f"  [clicked button] {text} [clicked button_]")
        else:
            lines.append(f"  [button] {text} [button_]")
    return "".join(reversed(clicked)) + "".join(line + "\n" for line in lines)


def targets(session: Session) -> dict[str, str | int | None]:
    """What can be clicked, in the original's order.

    A product leads to its place in the catalogue, an option's value to the option's name, a
    button to None. Of equal values the last option counts.
    """
    found: dict[str, str | int | None] = {}
    for kind, text in _nodes(session):
        if kind == "button":
            found[text.lower()] = None
    if session.page == "results":
        for place in session.shown:
            found[session.engine.catalogue[place].asin.lower()] = place
    elif session.page == "item" and session.product is not None:
        for name, values in session.product.options.items():
            for value in values:
                found[value] = name
    return found


def _nodes(session: Session) -> Iterator[Node]:
    """Everything on the present page, also what is blank."""
    if session.page == "done":
        yield from _done_page(session)
        return
    yield from _head(session)
    product = session.product
    if session.page == "results":
        yield from _results_page(session)
    elif product is not None and session.page == "item":
        yield from _item_page(product)
    elif product is not None and session.page == "sub":
        yield from _sub_page(product, session.sub)


def _head(session: Session) -> Iterator[Node]:
    """The instruction and the way back; all there is on the search page."""
    search = session.page == "search"
    if search:
        yield "text", "WebShop"
    yield "text", "Instruction: " if search else "Instruction:"
    yield "text", session.goal.instruction
    yield "button", "Search" if search else "Back to Search"
    if session.page in ("item", "sub"):
        yield "button", "< Prev"


def _results_page(session: Session) -> Iterator[Node]:
    yield "text", f"Page {session.number} (Total results: {len(session.hits)})"
    if session.number > 1:
        yield "button", "< Prev"
    yield "button", "Next >"
    for place in session.shown:
        product = session.engine.catalogue[place]
        yield "link", product.asin
        yield "text", product.title
        yield "text", product.price_tag


def _item_page(product: Product) -> Iterator[Node]:
    for name, values in product.options.items():
        yield "text", name
        for value in values:
            yield "option", value
    yield "text", product.title
    yield "text", f"Price: {product.price_tag}"
    yield "text", f"Rating: {_NO_RATING}"
    for name in _ITEM_BUTTONS:
        yield "button", name


def _sub_page(product: Product, name: str) -> Iterator[Node]:
    if name == "Description":
        yield "text", product.description
    elif name == "Features":
        for bullet in product.bullets:
            yield "text", f" {bullet}"
    elif name == "Attributes":  # without a button: reached only by an option of that name
        for attribute in product.attributes:
            yield "text", f" {attribute}"
        for text in (product.category, product.query, product.product_category):
            yield "text", text


def _done_page(session: Session) -> Iterator[Node]:
    """The receipt; the original leaves most of it empty."""
    asin = session.product.asin if session.product else ""
    for text in (
        *("Thank you for shopping with us!", "Your code: ", "None"),
        *(" (Paste it in your MTurk interface.)", "Purchased"),
        *("asin", asin, "options", _embedded_json(session.options), "attrs", "None"),
        *("category", "None", "query", "None", "product category", "None", "Target"),
        *("asin", "options", "attrs", "price upper", "instuction text", "category"),
        *("product category", "query", "Goal ", "None", "Reward"),
        *("Your score (min 0.0, max 1.0)", str(session.reward), "Reward Details ", "None"),
    ):
        yield "text", text


def _embedded_json(options: dict[str, str]) -> str:
    """JSON with sorted keys and escapes as Flask puts it into a page."""
    text = json.dumps(options, sort_keys=True)
    for char in "<>&'":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _visible(text: str) -> str:
    """A text as the original's HTML parser leaves it; "" if it is not shown."""
    if text.strip(_BLANK):
        return text
    return " " if text and "\n" not in text else ""
