"""One visit to the shop: which page is shown and what has been chosen so far.

A session is a handful of fields that are replaced, never changed in place, so a copy of them is
an independent session.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from step_ray.envs.webshop import pages
from step_ray.envs.webshop.goals import Goal
from step_ray.envs.webshop.pages import Mode, PageKind
from step_ray.envs.webshop.products import Product

if TYPE_CHECKING:
    from step_ray.envs.webshop.engine import Engine

_CAP = re.compile(r",? and price lower than .*")
_WORDS = re.compile(r"\w+")
_URL_NAMES = {
    "search": "",
    "results": "search_results",
    "item": "item_page",
    "sub": "item_sub_page",
    "done": "done",
}


def parse_action(action: str) -> tuple[str, str] | None:
    """(name, argument in lower case) of ``name[argument]``; None for anything else.

    The same as the original's pattern ``(.+)\\[(.+)\\]`` at the beginning, in linear time.
    """
    line = action.partition("\n")[0]
    end = line.rfind("]")
    start = line.rfind("[", 1, max(end - 1, 0))
    return None if start < 0 else (line[:start], line[start + 1 : end].lower())


@dataclass(slots=True, eq=False)
class Session:
    """A visit. All fields are there to be read.

    ``page`` is what is shown: the search page, page ``number`` of the results for ``keywords``
    (``hits``: their places in the catalogue), the ``product``'s page, its sub page ``sub`` or the
    receipt. ``page_size``: products on a page of results. ``options``: what has been chosen for the
    product, by option name. ``seen``: asins opened since the last search page. ``reward`` and
    ``done`` are set by the purchase.
    """

    engine: Engine
    goal: Goal
    mode: Mode = "text"
    page_size: int = pages.PER_PAGE
    page: PageKind = "search"
    keywords: tuple[str, ...] = ()
    number: int = 0
    hits: tuple[int, ...] = ()
    product: Product | None = None
    options: dict[str, str] = field(default_factory=dict)
    sub: str = ""
    seen: frozenset[str] = frozenset()
    reward: float = 0.0
    done: bool = False

    @property
    def observation(self) -> str:
        """The present page as text."""
        return pages.observation(self)

    @property
    def clickables(self) -> list[str]:
        """What can be clicked, in the original's order ("search" is listed but does nothing)."""
        return list(pages.targets(self))

    @property
    def has_search_bar(self) -> bool:
        """Whether the page shows a search bar; a search works on every page."""
        return self.page == "search"

    @property
    def asin(self) -> str | None:
        """The asin of the product that is open, or was bought."""
        return self.product.asin if self.product else None

    @property
    def shown(self) -> tuple[int, ...]:
        """Places in the catalogue of the products on the present page of results."""
        return self.hits[(self.number - 1) * self.page_size : self.number * self.page_size]

    @property
    def url(self) -> str:
        """The page's address without host and session, as far as the original looks at it."""
        parts = [_URL_NAMES[self.page], "+".join(self.keywords), str(self.number)]
        if self.page == "item":
            parts.append(json.dumps(self.options))
        elif self.page == "sub":
            parts += [self.sub, str(self.options)]
        return "/".join(parts)

    def admissible(self) -> list[str]:
        """All valid clicks and one search, for the words of the goal's instruction, sorted.

        Any other search is valid too. Clicks that the original lists but cannot take are left out.
        """
        if self.done:
            return []
        names = (name for name in self.clickables if name != pages.SEARCH)
        clicks = [(name, f"click[{name}]") for name in names]
        found = [action for name, action in clicks if parse_action(action) == ("click", name)]
        text = _CAP.sub("", self.goal.instruction.lower())
        if words := " ".join(_WORDS.findall(text)):
            found.append(f"search[{words}]")
        return sorted(found)

    def fork(self) -> Session:
        """An independent copy."""
        return copy.copy(self)

    def step(self, action: str) -> tuple[float, bool, bool]:
        """Does ``search[words]`` or ``click[value]``: reward, whether it is over, valid or not.

        Anything else, and everything after the purchase, changes nothing. The reward is 0 until
        the purchase.
        """
        parsed = None if self.done else parse_action(action)
        valid = False
        if parsed is not None:
            name, argument = parsed
            if name == "search":
                self._search(tuple(argument.split(" ")))
                valid = True
            elif name == "click":
                valid = self._click(argument)
        return self.reward, self.done, valid

    def _search(self, keywords: tuple[str, ...]) -> None:
        self.keywords, self.hits = keywords, self.engine.find(keywords)
        self._results(1)

    def _results(self, number: int) -> None:
        self.page, self.number = "results", number
        self.product, self.options = None, {}

    def _click(self, name: str) -> bool:
        targets = pages.targets(self)
        if name not in targets or name == pages.SEARCH:
            return False
        here = self._page_name()
        if name == pages.BUY:
            self._buy()
        elif name == pages.BACK:
            self.page, self.keywords, self.number, self.hits = "search", (), 0, ()
            self.product, self.options, self.seen = None, {}, frozenset()
        elif name == pages.NEXT and here == "search_results":
            self._results(self.number + 1)
        elif name == pages.PREV and here == "search_results":
            self._results(self.number - 1)
        elif name == pages.PREV and here == "item_page":
            self._results(self.number)
        elif name in pages.SUB_PAGES:
            self.page, self.sub = "sub", pages.SUB_PAGES[name]
        else:
            self._item(name, targets[name])
        return True

    def _item(self, name: str, target: str | int | None) -> None:
        """Shows the product's page: of the one clicked, or with the option clicked chosen."""
        if isinstance(target, int):
            self.product = self.engine.catalogue[target]
            self.seen |= {self.product.asin}
        elif target is not None:
            self.options = {**self.options, target.lower(): name}
        self.page = "item"

    def _buy(self) -> None:
        if self.product is not None:
            self.reward = self.engine.reward(self.goal, self.product, None, self.options)
        self.page, self.done = "done", True

    def _page_name(self) -> str:
        """Which page the original takes this for: it looks for names anywhere in the address."""
        url = self.url
        names = ("search_results", "item_page", "item_sub_page", "done")
        return next((name for name in names if name in url), "")
