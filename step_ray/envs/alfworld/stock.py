"""The original ALFWorld engine, as a reference for the native one and for games it refuses.

Needs the extra ``alfworld`` (alfworld 0.4.2 with textworld and Fast Downward: GPL parts, compiled
at installation). An instance holds C++ state: use it from one thread. Sixty milliseconds a step
unpatched, about four with ``fast``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

from step_ray.envs.alfworld.pddl import UnsolvableGame
from step_ray.envs.base import EnvError

__all__ = ["StockGame"]

# Every environment loads its own copy of a 34 MB library. Unloading the second one crashes the
# process at exit, so closed games leave theirs to the next.
_idle_libraries: list[Any] = []


class StockGame:
    """One game in the original engine.

    ``shuffle`` numbers the names by the global random generator. ``fast`` answers repeated work
    from memory (parses of the grammar, the translation of the PDDL text) with the same texts.
    """

    def __init__(
        self, game: str | Path | Mapping[str, Any], shuffle: bool = False, fast: bool = True
    ) -> None:
        try:
            import fast_downward
            from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
            from textworld import EnvInfos
            from textworld.envs.pddl import PddlEnv
        except ImportError as error:
            raise EnvError(
                f"the stock ALFWorld engine is not installed ({error}); "
                'run: pip install "step-ray[alfworld]"'
            ) from error
        self._fast = fast
        self._translate = lru_cache(maxsize=4)(fast_downward.pddl2sas)
        load_library = _idle_libraries.pop if _idle_libraries else fast_downward.load_lib
        with mock.patch.object(fast_downward, "load_lib", load_library):
            pddl = PddlEnv(EnvInfos(admissible_commands=True, won=True))
        self._library = pddl.downward_lib
        self._env = AlfredDemangler(pddl, shuffle=shuffle)
        self.admissible: list[str] = []
        self.won = False
        try:
            with self._patched():
                self._env.load(game if isinstance(game, Mapping) else str(game))
        except KeyError as error:
            self.close()
            if error.args != ("val1",):
                raise
            # Fast Downward found the goal out of reach and wrote a trivial problem instead.
            raise UnsolvableGame(f"{game}: the goal is out of reach; skip the game") from error

    def reset(self) -> str:
        """Starts the game anew: the first text."""
        with self._patched():
            state = self._env.reset()
        return self._read(state)

    def step(self, command: str) -> tuple[str, bool, list[str]]:
        """Executes a command: its text, whether the goal holds now, and what is admissible."""
        with self._patched():
            state, _, _ = self._env.step(command)
        return self._read(state), self.won, self.admissible

    def close(self) -> None:
        """Leaves its copy of the C++ library to the next game; do not use it afterwards."""
        if self._library is not None:
            self._library.cleanup()
            _idle_libraries.append(self._library)
            self._library = None

    def _read(self, state: Any) -> str:
        self.won = bool(state["won"])
        self.admissible = list(state["admissible_commands"])
        return str(state.feedback)

    @contextmanager
    def _patched(self) -> Iterator[None]:
        """The faster functions, in place only while this engine runs."""
        import fast_downward
        import textworld.envs.pddl.textgen as textgen
        import textworld.logic as logic

        arguments = sys.argv  # the translator overwrites them
        try:
            if not self._fast:
                yield
                return
            text_parse, logic_parse = _remembering_parsers()
            with (
                mock.patch.object(textgen, "_parse_and_convert", text_parse),
                mock.patch.object(logic, "_parse_and_convert", logic_parse),
                mock.patch.object(textgen, "copy_context", _copy_context),
                mock.patch.object(fast_downward, "pddl2sas", self._pddl2sas),
            ):
                yield
        finally:
            sys.argv = arguments

    def _pddl2sas(
        self, domain: str, problem: str, verbose: bool = False, optimize: bool = False
    ) -> Any:
        # The optimised variant only serves the planner, which is never asked here.
        return self._translate(domain, problem)


@lru_cache(maxsize=1)
def _remembering_parsers() -> tuple[Any, Any]:
    """Both grammar parsers, with memory: they see a hundred different strings in thousands."""
    import textworld.envs.pddl.textgen as textgen
    import textworld.logic as logic

    remember = lru_cache(maxsize=4096)
    return remember(textgen._parse_and_convert), remember(logic._parse_and_convert)


def _copy_context(context: Mapping[str, Any]) -> dict[str, Any]:
    """A shallow copy where the original copies deeply: the values are never changed."""
    copy = dict(context)
    for key in ("variables", "mapping"):
        copy[key] = dict(context[key])
    return copy
