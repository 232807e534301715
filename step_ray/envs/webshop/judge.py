"""Which proposed WebShop actions are errors, judged by what the goal's product would be worth.

A product *fits* if with the right options it earns as much as the product the goal was made of;
it is *right* if it also has the very option values and is named as the task names it.

=============  =====================================================================================
kind           when
=============  =====================================================================================
invalid        Nothing would happen: no such command, no such button, product or option on this
               page, click[search].
loop           Nothing new would come of it: the same page of results again, a product seen before
               that does not fit, a sub page read before, an option that is chosen already, a search
               that gave nothing fitting before.
wrong_query    Searching with words that do not describe the thing, while the search finds nothing
               that fits.
wrong_object   Opening a product that is plainly wrong by the title or price in the list; buying one
               that does not fit; choosing options on one whose page shows that it does not.
wrong_option   Choosing another value than the one asked for; buying the right product with an
               option that is wrong or not chosen.
undo           Leaving the right product: back to the results, to the search, or by a search.
detour         Going past a page of results that lists a right product, or past the last page;
               changing an option that the task does not ask for once more.
=============  =====================================================================================

No error: the first search with any words of the task, and any search that lists a fitting product;
the next page when nothing on this one fits, and a better search; opening any product that is not
plainly wrong, trying its options while nothing speaks against it, and leaving it; reading a sub
page once; an option the task does not mention; going back from a sub page; buying any product that
earns as much as the goal's own.

Only a bad purchase is irreversible: it ends the episode.

``visited`` (see ``visits``) tells what was seen before; without it only the present page counts.

``facts`` are phrases for the teacher's sentences: ``cause`` (a code), ``why`` (a clause in the
present tense that holds before and after the action), ``do`` and ``did`` (the action as an
infinitive and in the past tense).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from step_ray.envs.base import Judgement
from step_ray.envs.webshop import pages
from step_ray.envs.webshop.engine import Engine
from step_ray.envs.webshop.expert import fitting_on_page, plan
from step_ray.envs.webshop.fit import choice, fits, goal_place, is_best, lacks, on_list, on_page
from step_ray.envs.webshop.products import Product
from step_ray.envs.webshop.query import asked, right_one
from step_ray.envs.webshop.session import Session, parse_action
from step_ray.envs.webshop.thoughts import a_thing, lack_clause, main_lack, short_title
from step_ray.envs.webshop.tokens import terms
from step_ray.envs.webshop.visits import Place

_RIGHT = Judgement(False)
_WORDS_SHOWN = 80


@dataclass(frozen=True, slots=True)
class _Found:
    kind: str
    cause: str
    why: str


def judge(
    session: Session, engine: Engine, action: str, visited: Collection[Place] | None = None
) -> Judgement:
    """Judges an action proposed on the present page; changes nothing."""
    parsed = parse_action(action)
    if session.done:
        return _error(_Found("invalid", "over", "the purchase is made already"), ("", ""))
    if parsed is None or parsed[0] not in ("search", "click"):
        why = "I can only write search[words] or click[something on the page]"
        return _error(_Found("invalid", "no_command", why), ("", ""))
    name, argument = parsed
    seen: Collection[Place] = visited or ()
    if name == "search":
        found = _search(session, engine, argument, seen)
    elif argument not in session.clickables or argument == pages.SEARCH:
        return _error(_why_invalid(session, argument), _said(session, name, argument))
    else:
        found = _click(session, engine, argument, seen)
    if found is None or parsed == parse_action(plan(session, engine, visited).action):
        return _RIGHT
    return _error(
        found,
        _said(session, name, argument),
        irreversible=argument == pages.BUY and name == "click",
    )


def _error(found: _Found, said: tuple[str, str], irreversible: bool = False) -> Judgement:
    do, did = said
    facts = (("cause", found.cause), ("why", found.why), ("do", do), ("did", did))
    return Judgement(True, found.kind, facts, irreversible)


# -- what cannot be done ---------------------------------------------------------------------------


def _why_invalid(session: Session, argument: str) -> _Found:
    if argument == pages.SEARCH:
        return _Found("invalid", "search_words", "a search needs words: search[words]")
    shown = f'"{argument[:_WORDS_SHOWN]}"'
    if session.page == "search":
        return _Found("invalid", "only_search", f"there is no {shown} here, only the search")
    if session.page == "results":
        return _Found("invalid", "not_listed", f"{shown} is not on this page of results")
    if session.page == "sub":
        return _Found("invalid", "on_sub_page", f"there is no {shown} here, only the way back")
    return _Found("invalid", "no_such_option", f"this product's page has no {shown}")


# -- searches --------------------------------------------------------------------------------------


def _search(session: Session, engine: Engine, words: str, seen: Collection[Place]) -> _Found | None:
    left = _leaving(session, engine)
    if left:
        return left
    goal = session.goal
    keywords = words.split(" ")
    here = session.page == "results" and session.number == 1
    if here and tuple(keywords) == session.keywords:
        return _Found("loop", "same_results", f'these are the results for "{_cut(words)}" already')
    if goal_place(goal, engine) in engine.find(keywords):
        return None
    if ("results", words, "1") in seen:
        why = f'I searched for "{_cut(words)}" before and found nothing that fits'
        return _Found("loop", "searched", why)
    said = asked(goal)
    telling = {term for word in (*said.thing, *goal.query.split()) for term in terms(word)}
    if telling.isdisjoint(terms(words)):
        return _Found("wrong_query", "unrelated", f"these words do not describe {a_thing(goal)}")
    return None


def _leaving(session: Session, engine: Engine) -> _Found | None:
    """What speaks against leaving the present page altogether."""
    goal, product = session.goal, session.product
    if session.page == "results":
        fitting = fitting_on_page(session, engine)
        if fitting is None:
            return None
        return _Found(
            "detour",
            "listed",
            f"page {session.number} lists {short_title(fitting)}, which can be right",
        )
    if product is not None and right_one(goal, [product], engine):
        return _Found(
            "undo", "leaves_right", f"the {short_title(product)} has what the task asks for"
        )
    return None


# -- clicks ----------------------------------------------------------------------------------------


def _click(session: Session, engine: Engine, name: str, seen: Collection[Place]) -> _Found | None:
    if name == pages.BUY:
        return _buy(session, engine)
    if name == pages.BACK:
        return _leaving(session, engine)
    if name in pages.SUB_PAGES and name not in _options(session):
        return _read(session, pages.SUB_PAGES[name], seen)
    if session.page == "sub":
        return None
    if session.page == "results":
        if name in (pages.NEXT, pages.PREV):
            return _turn(session, engine, name, seen)
        return _open(session, engine, name, seen)
    if name == pages.PREV:
        return _leaving(session, engine)
    return _choose(session, engine, name)


def _options(session: Session) -> frozenset[str]:
    product = session.product
    return (
        frozenset(v for values in product.options.values() for v in values)
        if product
        else frozenset()
    )


def _buy(session: Session, engine: Engine) -> _Found | None:
    goal, product = session.goal, session.product
    if product is None or is_best(goal, product, session.options, engine):
        return None
    if not fits(goal, product, engine):
        return _Found("wrong_object", "wrong_product", main_lack(goal, product, engine))
    for name, value in choice(goal, product).items():
        if name not in session.options:
            return _Found("wrong_option", "not_chosen", f"the {name} {value} is not chosen")
    for name, value in choice(goal, product).items():
        chosen = session.options[name]
        if chosen != value:
            why = f"the {name} is {chosen} and the task asks for {value}"
            return _Found("wrong_option", "wrong_chosen", why)
    return None


def _read(session: Session, name: str, seen: Collection[Place]) -> _Found | None:
    if ("sub", session.asin or "", name) in seen:
        return _Found("loop", "read", f"I have read the {name.lower()} of this product already")
    return None


def _turn(session: Session, engine: Engine, name: str, seen: Collection[Place]) -> _Found | None:
    left = _leaving(session, engine)
    if left:
        return left
    number = session.number + (1 if name == pages.NEXT else -1)
    if name == pages.NEXT and session.number * session.page_size >= len(session.hits):
        return _Found("detour", "last_page", f"page {session.number} is the last one")
    page = session.fork()
    page.number = number
    known = ("results", " ".join(session.keywords), str(number)) in seen
    if known and fitting_on_page(page, engine) is None:
        return _Found("loop", "same_results", f"I have seen page {number} of these results")
    return None


def _open(session: Session, engine: Engine, asin: str, seen: Collection[Place]) -> _Found | None:
    goal, product = session.goal, _listed(session, asin)
    assert product is not None  # else it cannot be clicked
    if fits(goal, product, engine):
        return None
    if ("item", product.asin) in seen or product.asin in session.seen:
        return _Found(
            "loop", "opened", f"I have looked at it, and {main_lack(goal, product, engine)}"
        )
    plain = [lack for lack in lacks(goal, product, engine) if on_list(goal, product, lack)]
    if plain:
        why = lack_clause(goal, product, plain[0])
        return _Found("wrong_object", f"wrong_{plain[0].kind}", why)
    return None


def _listed(session: Session, asin: str) -> Product | None:
    """The product of the present page of results with an asin in lower case."""
    shown = (session.engine.catalogue[place] for place in session.shown)
    return next((product for product in shown if product.asin.lower() == asin), None)


def _choose(session: Session, engine: Engine, value: str) -> _Found | None:
    goal, product = session.goal, session.product
    assert product is not None  # only a product's page has options
    name = next(key for key in reversed(product.options) if value in product.options[key])
    if session.options.get(name) == value:
        return _Found("loop", "chosen", f"the {name} is {value} already")
    plain = [lack for lack in lacks(goal, product, engine) if on_page(goal, product, lack)]
    if plain and not fits(goal, product, engine):
        return _Found("wrong_object", "wrong_product", lack_clause(goal, product, plain[0]))
    wanted = choice(goal, product)
    if name in wanted and value != wanted[name]:
        why = f"the task asks for {name} {wanted[name]}, not {value}"
        return _Found("wrong_option", "not_asked_for", why)
    if name not in wanted and name in session.options:
        return _Found("detour", "unimportant", f"the task does not ask for a {name}")
    return None


# -- words -----------------------------------------------------------------------------------------

_SAYINGS = {
    pages.BUY: ("buy {it}", "bought {it}"),
    pages.BACK: ("go back to the search", "went back to the search"),
    pages.NEXT: ("go to the next page", "went to the next page"),
    pages.PREV: ("go back one page", "went back one page"),
    **{
        name: (f"read the {name} of {{it}}", f"read the {name} of {{it}}")
        for name in pages.SUB_PAGES
    },
}


def _said(session: Session, name: str, argument: str) -> tuple[str, str]:
    """The action as an infinitive and in the past tense."""
    if name == "search":
        return f'search for "{_cut(argument)}"', f'searched for "{_cut(argument)}"'
    if argument in _SAYINGS:
        it = short_title(session.product) if session.product else "it"
        do, did = _SAYINGS[argument]
        return do.format(it=it), did.format(it=it)
    listed = _listed(session, argument) if session.page == "results" else None
    if listed is not None:
        return f"open {short_title(listed)}", f"opened {short_title(listed)}"
    if argument in _options(session):
        return f"choose {argument}", f"chose {argument}"
    return f'click on "{_cut(argument)}"', f'clicked on "{_cut(argument)}"'


def _cut(text: str) -> str:
    return text if len(text) <= _WORDS_SHOWN else f"{text[:_WORDS_SHOWN]}..."
