"""Which pages of the shop were visited in an episode: what a session itself does not keep."""

from __future__ import annotations

from step_ray.envs.webshop.session import Session

Place = tuple[str, ...]
"""("results", words, page number), ("item", asin), ("sub", asin, its name), ("search",), ..."""


def place_of(session: Session) -> Place:
    """The present page, whatever options are chosen on it."""
    if session.page == "results":
        return "results", " ".join(session.keywords), str(session.number)
    if session.page == "item":
        return "item", session.asin or ""
    if session.page == "sub":
        return "sub", session.asin or "", session.sub
    return (session.page,)
