"""The expert's thoughts: one sentence or two that say why the next click or search is made.

Several phrasings per case, chosen by a hash of goal and page: varied, yet reproducible. What a
thought claims of a product stands on a page of the shop.
"""

from __future__ import annotations

import zlib

from step_ray.envs.webshop.engine import Engine
from step_ray.envs.webshop.fit import Lack, choice, has_cap, lacks, on_page, value_of
from step_ray.envs.webshop.goals import Goal
from step_ray.envs.webshop.products import Product
from step_ray.envs.webshop.query import thing
from step_ray.envs.webshop.session import Session
from step_ray.envs.webshop.wording import noun_phrase

# {a_thing} what is wanted · {wish} its attributes, options and price limit · {words} of the search
# {title} of the product, shortened · {seen} what speaks for it · {lack} what speaks against it
# {name} {value} of an option · {old} its present value · {what} an attribute or a page's name
# {page} number of the page of results · {query} words of the present results
_THOUGHTS: dict[str, tuple[str, ...]] = {
    "search": (
        "I need {a_thing}, and what counts is {wish}. I search for the telling words: {words}.",
        "The task is to buy {a_thing}; it asks for {wish}. I start with a search for {words}.",
        "First I have to find {a_thing}. I search for {words} and compare the results afterwards.",
        "I am looking for {a_thing} and must not forget {wish}. I put {words} into the search.",
    ),
    "search_again": (
        "The results so far did not help. I still need {a_thing}, so I search for {words}.",
        "I try another search for {a_thing}: {words} are the words of the task that matter.",
        "I have not found {a_thing} with all that the task asks for yet. I search for {words} now.",
    ),
    "open": (
        "{title} may be it: {seen}. I open it.",
        "Of the products on this page, {title} fits best, since {seen}. I look at it closely.",
        "I want {a_thing}, and {title} looks right: {seen}. I click on it.",
        "I compare titles and prices: {title} stands out, because {seen}. I open that product.",
    ),
    "next": (
        "None of the products on page {page} has all that I need. I go on to the next page.",
        "What counts is {wish}, and I do not see it on page {page}. I look at the next page.",
        "What I want is not among these ten products. I check the next page.",
    ),
    "previous": (
        "I have gone too far: what I want was on an earlier page. I go back one page.",
        "The products on page {page} fit less well than the earlier ones, so I go back a page.",
    ),
    "back": (
        "These results for {query} are not what I want. I go back to search for {a_thing}.",
        "I do not see {wish} in these results. I go back and search with better words.",
        "My search for {query} missed the point. I return to the search page.",
    ),
    "leave": (
        "This product is not the right one: {lack}. I go back to the results.",
        "I cannot take {title}, because {lack}. I return to the list.",
        "{title} does not fit, since {lack}. I go back and choose another one.",
    ),
    "leave_search": (
        "This product is not the right one: {lack}. I go back to search again.",
        "I cannot take {title}, because {lack}. I start over with a better search.",
    ),
    "return": (
        "I have read the {what} and found nothing against this product. I go back to its page.",
        "The {what} brought nothing that speaks against it. I return to the product's page.",
    ),
    "confirmed": (
        "In the {what} I read {confirmed}, just as the task asks. I go back to the product's page.",
        "I was looking for {confirmed} and found it in the {what}. I return to the product's page.",
        "That settles it: the {what} name {confirmed}. I go back to order this product.",
    ),
    "return_wrong": (
        "I have read the {what}, but this product is not right: {lack}. I go back.",
        "The {what} do not help, because {lack}. I leave this page.",
    ),
    "check_features": (
        'The title does not say "{what}", so I check the features before I buy.',
        'The price is fine, but I am not sure about "{what}". I read the features.',
        'I want to be sure of "{what}", which the title leaves open. I look at the features.',
    ),
    "check_description": (
        'The title does not say "{what}", so I read the description first.',
        'I have to make sure about "{what}". I open the description.',
    ),
    "choose": (
        "The task asks for {name} {value}, and this product offers it. I choose {value}.",
        "This product can be the right one, so I set the {name} to {value} as the task says.",
        "Before I buy I have to choose the {name}: I click {value}.",
        "I need {value} as {name}. It is among the options, so I click it.",
    ),
    "change": (
        "I have chosen {old}, but the task asks for {name} {value}. I change it.",
        "The {name} is still {old}. I need {value}, so I click that.",
        "The {name} must be {value} and not {old}; I correct it.",
    ),
    "buy": (
        "{seen_start}{chosen}. Everything fits, so I buy it.",
        "This is what the task asks for: {seen}{chosen}. I click buy now.",
        "I have compared it with the task: {seen}{chosen}. I buy it.",
        "{title} is what I was looking for{chosen}. I buy it now.",
    ),
}
_TITLE_WORDS = 7


def thought_of(
    session: Session, engine: Engine, case: str, what: str = "", product: Product | None = None
) -> str:
    """The thought for a planned action; ``what`` is the query, attribute, option or page."""
    goal = session.goal
    product = product or session.product
    if case == "return" and product is not None and _confirmed(goal, product, what):
        case = "confirmed"
    phrasings = _THOUGHTS[case]
    seed = f"{goal.asin}|{goal.instruction}|{session.url}|{case}"
    words = {
        "a_thing": a_thing(goal),
        "wish": _wish(goal, seed),
        "words": f'"{what}"',
        "query": f'"{" ".join(session.keywords)}"',
        "page": str(session.number),
        "what": what if case.startswith("check") else what.lower(),
        "name": what,
    }
    if product is not None:
        words |= _about(session, engine, product)
        words["confirmed"] = _and(_quoted(_confirmed(goal, product, what)[:2]))
        words["value"] = choice(goal, product).get(what, "")
        words["old"] = session.options.get(what, "")
    thought = phrasings[zlib.crc32(seed.encode()) % len(phrasings)].format_map(words)
    return thought[0].upper() + thought[1:]


def a_thing(goal: Goal) -> str:
    """What the goal is about: a category as the shop names it, or a person's words with article."""
    name = thing(goal)
    return name if name == goal.query else noun_phrase(name)


def short_title(product: Product) -> str:
    """The first words of a title, without what would end a sentence."""
    words = product.title.replace(". ", " ").split()[:_TITLE_WORDS]
    while len(words) > 1 and words[-1].lower() in (
        "with",
        "for",
        "and",
        "of",
        "the",
        "in",
        "&",
        "-",
    ):
        words.pop()
    return " ".join(words).rstrip(".,;:|-&( ")


def lack_clause(goal: Goal, product: Product, lack: Lack) -> str:
    """What is wrong with a product, as a clause in the present tense."""
    if lack.kind == "type":
        return f"it is something else than {a_thing(goal)}"
    if lack.kind == "price":
        return f"it costs {product.price_tag} and the limit is ${goal.price_upper:.2f}"
    if lack.kind == "option":
        return f"it is not offered in {lack.what}"
    return f'I have not found "{lack.what}" on its pages'


def main_lack(goal: Goal, product: Product, engine: Engine) -> str:
    """The first thing that is wrong with a product, as a clause."""
    found = lacks(goal, product, engine)
    found.sort(key=lambda lack: not on_page(goal, product, lack))
    if not found:
        return "it is not quite what the task describes"
    return lack_clause(goal, product, found[0])


def _about(session: Session, engine: Engine, product: Product) -> dict[str, str]:
    goal = session.goal
    seen = _seen(goal, product)
    chosen = list(session.options.values())
    return {
        "title": short_title(product),
        "seen": seen,
        "seen_start": seen[0].upper() + seen[1:],
        "lack": main_lack(goal, product, engine),
        "chosen": f", and {_and(chosen)} {_is(chosen)} chosen" if chosen else "",
    }


def _seen(goal: Goal, product: Product) -> str:
    """What title and price say for a product, as a clause."""
    title = product.title.lower()
    named = [name for name in goal.attributes if name in title][:3]
    clauses = [f"the title says {_and(_quoted(named))}"] if named else []
    if has_cap(goal) and max(product.pricing) <= goal.price_upper:
        clauses.append(f"it costs {product.price_tag}, below the limit of {goal.price_upper:.2f}")
    elif has_cap(goal):
        clauses.append(f"its price of {product.price_tag} can be low enough")
    return " and ".join(clauses) or f"it is sold as {product.query}"


def _confirmed(goal: Goal, product: Product, page: str) -> list[str]:
    """What is asked for and stands on a sub page, above all what the title does not say."""
    pages = {"Features": " ".join(product.bullets), "Description": product.description}
    text, title = pages.get(page, "").lower(), product.title.lower()
    return sorted((name for name in goal.attributes if name in text), key=title.count)


def _wish(goal: Goal, seed: str) -> str:
    """Some of what the goal asks for, to follow the thing: attributes, options, price."""
    parts = list(goal.attributes[:2])
    parts += [value_of(option) for option in goal.options[:2]]
    if has_cap(goal) and zlib.crc32(f"{seed}|wish".encode()) % 3 == 0:
        parts.append(f"a price below {goal.price_upper:.2f} dollars")
    return _and(parts)


def _quoted(words: list[str]) -> list[str]:
    return [f'"{word}"' for word in words]


def _and(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _is(words: list[str]) -> str:
    return "is" if len(words) == 1 else "are"
