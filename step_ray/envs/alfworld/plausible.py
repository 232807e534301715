"""Where things are usually found: the order in which the expert looks at receptacle types.

Written by hand after counting where the sought object lies in the training games, per receptacle
and with a closed receptacle counted as twice the work. What is not named comes last.
"""

from __future__ import annotations

from functools import lru_cache

_PLACES: tuple[tuple[str, str], ...] = (
    (  # food
        "apple bread egg lettuce potato tomato",
        "diningtable countertop sidetable garbagecan sinkbasin fridge microwave stoveburner",
    ),
    (  # cookware
        "kettle pan pot",
        "stoveburner diningtable countertop sinkbasin fridge cabinet",
    ),
    (  # cutlery and seasoning
        "butterknife fork knife ladle peppershaker saltshaker spatula spoon",
        "diningtable countertop sidetable shelf sinkbasin drawer cabinet",
    ),
    (  # dishes
        "mug",
        "coffeemachine diningtable desk sidetable countertop dresser sinkbasin shelf fridge "
        "microwave cabinet",
    ),
    (
        "bowl cup glassbottle plate winebottle",
        "diningtable desk sidetable countertop dresser coffeetable sinkbasin shelf "
        "garbagecan fridge microwave cabinet drawer",
    ),
    (  # bathroom
        "candle cloth dishsponge soapbar soapbottle spraybottle toiletpaper",
        "countertop toilet sidetable diningtable dresser bathtubbasin cart garbagecan shelf "
        "toiletpaperhanger sinkbasin cabinet drawer",
    ),
    ("handtowel", "handtowelholder countertop sinkbasin cabinet"),
    ("towel", "towelholder countertop bathtubbasin cabinet"),
    (  # writing and small valuables
        "alarmclock cd creditcard keychain pen pencil watch",
        "diningtable coffeetable dresser desk sidetable tvstand sofa countertop ottoman armchair "
        "shelf garbagecan drawer safe cabinet",
    ),
    (  # things one uses on a sofa or a bed
        "book box cellphone laptop newspaper pillow remotecontrol tennisracket teddybear",
        "bed sofa coffeetable diningtable desk dresser tvstand armchair ottoman sidetable "
        "countertop shelf drawer cabinet safe garbagecan",
    ),
    (  # decoration
        "houseplant statue tissuebox vase wateringcan",
        "countertop diningtable desk dresser coffeetable tvstand sidetable shelf toilet cabinet "
        "drawer safe",
    ),
    ("desklamp floorlamp", "sidetable dresser desk shelf coffeetable"),
)
_ANYTHING = (
    "diningtable countertop coffeetable desk dresser sidetable bed sofa tvstand ottoman armchair "
    "cart toilet shelf stoveburner coffeemachine sinkbasin bathtubbasin garbagecan handtowelholder "
    "towelholder toiletpaperhanger toaster fridge microwave cabinet drawer safe laundryhamper"
)


@lru_cache(maxsize=256)
def plausible_places(kind: str) -> tuple[str, ...]:
    """Every receptacle type, the likeliest for this object type first."""
    own = next((places.split() for kinds, places in _PLACES if kind in kinds.split()), [])
    return (*own, *(place for place in _ANYTHING.split() if place not in own))


@lru_cache(maxsize=4096)
def rank(kind: str, place_kind: str) -> int:
    """Position of a receptacle type in :func:`plausible_places`; the last for an unknown one."""
    places = plausible_places(kind)
    return places.index(place_kind) if place_kind in places else len(places)


@lru_cache(maxsize=4096)
def may_hold(kind: str, place_kind: str) -> bool:
    """Whether the table names this receptacle type for this object type."""
    return any(kind in kinds.split() and place_kind in places.split() for kinds, places in _PLACES)
