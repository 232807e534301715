"""ETO's splits of WebShop: lists of goals by their place among all goals of a catalogue.

ETO plays the 12,087 human goals of the full catalogue. Its test list has 200 of them, its training
list 1,824, of which one is there twice and 21 are in the test list too.
"""

from __future__ import annotations

from pathlib import Path

from step_ray.envs.base import EnvError
from step_ray.envs.lists import read_list

SPLITS = ("train", "test")


def listed_goals(folder: Path, total: int) -> dict[str, tuple[int, ...]]:
    """Split -> its goals' indices in the order of the list, each once, of a shop with ``total``.

    Nobody is tested on what it was trained on: goals of both lists are in ``test`` alone. The lists
    are ``train_indices.json`` and ``test_indices.json`` in the folder, perhaps with something
    before, and hold ``[index, ...]``. Raises EnvError when one is missing, malformed, names a goal
    that the shop has not, or has nothing of its own.
    """
    train, test = (_indices(folder, split, total) for split in SPLITS)
    tested = frozenset(test)
    train = tuple(index for index in train if index not in tested)
    if not train:
        raise EnvError(
            f"{folder}: the test list has all goals of the training list; give lists that differ"
        )
    return {"train": train, "test": test}


def _indices(folder: Path, split: str, total: int) -> tuple[int, ...]:
    path, values = read_list(folder, split)
    if not values:
        raise EnvError(f"{path} names no goal; it holds [index, ...]")
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool):
            raise EnvError(f"{path} should hold whole numbers, indices of goals, not {value!r}")
        if not 0 <= value < total:
            raise EnvError(
                f"{path} names goal {value}, and this shop has {total}, from 0 on; ETO's lists are "
                "of the full catalogue's human goals (data: WebShop's files of all products, "
                "goals: human)"
            )
    return tuple(dict.fromkeys(values))
