"""Which world a run plays in: one section for each environment, chosen by its name."""

from __future__ import annotations

import difflib
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from step_ray.config_section import EXECUTION, Section
from step_ray.config_text import Location, Problem, dotted

TaskType = Literal[
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
]

_ENTRY_POINTS = "step_ray.envs"  # the group in which packages announce theirs
MEMORY_MB = 2048
"""Of an environment's own process, in MB, when a config says nothing."""


class _Env(Section):
    """What every environment has."""

    SPLITS: ClassVar[tuple[str, ...] | None] = None  # None: not known here
    HELD_OUT: ClassVar[tuple[str, ...]] = ("valid_seen", "valid_unseen")
    ALIASES: ClassVar[Mapping[str, str]] = MappingProxyType({})  # other name -> split
    GENERATED: ClassVar[tuple[str, ...]] = ()  # fields that say how, where no data are given

    data: Path | None
    max_steps: int = Field(
        default=40, ge=1, description="turns an episode may have, a whole number >= 1"
    )
    train_tasks: int | None = Field(
        default=None,
        ge=2,
        description="at most this many training tasks, drawn at random; null for all",
    )

    isolated: bool | None = Field(
        default=None,
        description="whether each environment runs in a process of its own, which can be killed: "
        "true, false, or null: only engines that may hang or crash (stock ALFWorld, your own)",
        json_schema_extra=EXECUTION,
    )
    memory_mb: int | None = Field(
        default=None,
        ge=50,
        description="resident memory in MB (10^6 bytes) from which such a process is replaced "
        f"after its episode; null for {MEMORY_MB}",
        json_schema_extra=EXECUTION,
    )

    @property
    def in_processes(self) -> bool:
        """Whether each environment runs in a process of its own."""
        return self._risky() if self.isolated is None else self.isolated

    def _risky(self) -> bool:
        """Whether the engine may hang, crash or leak, and is not in a process already."""
        return False

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """What ``make_env(name, data, **options)`` takes besides ``data``."""

    def folders(self) -> dict[str, Path]:
        """Fields that name a folder, with the folder, those that are given."""
        return {} if self.data is None else {"data": self.data}

    def splits(self) -> tuple[str, ...] | None:
        """The splits there are; None if that is not known here."""
        return self.SPLITS

    def problems(self, splits: Collection[str]) -> Iterator[Problem]:
        """What is wrong, though every field is right by itself. ``splits``: those evaluated."""
        known = self.splits()
        for split in splits:
            if split in self.ALIASES:  # left by split_names
                yield (
                    ("evaluation.splits", "env.name"),
                    f"evaluation.splits: another name of {self.ALIASES[split]}, which is there too "
                    f"({split}) -> name it once",
                )
            elif known is not None and split not in known:
                yield (
                    ("evaluation.splits", "env.name"),
                    f"evaluation.splits: no such split ({split}) -> choose of "
                    f"{', '.join((*known, *self.ALIASES))}",
                )
        if self.memory_mb is not None and not self.in_processes:
            yield (
                ("env.memory_mb", "env.isolated"),
                f"env.memory_mb: does nothing, as environments have no process of their own "
                f"({self.memory_mb}) -> remove it, or set env.isolated to true",
            )


class Games(Section):
    """How many games to generate for each split."""

    train: int = Field(
        default=100, ge=2, description="number of generated training games, at least 2"
    )
    valid_seen: int = Field(
        default=20, ge=0, description="number of games in rooms seen in training"
    )
    valid_unseen: int = Field(default=20, ge=0, description="number of games in rooms never seen")


class ALFWorldConfig(_Env):
    """Household tasks in generated or official rooms."""

    SPLITS = ("train", "valid_seen", "valid_unseen")
    GENERATED = ("games", "generator_seed")

    name: Literal["alfworld"] = Field(default="alfworld", description="environment: alfworld")
    data: Path | None = Field(
        default=None, description="folder of official game files; null generates games instead"
    )
    backend: Literal["native", "stock"] = Field(
        default="native", description="engine: native (fast, no C++) or stock (the original)"
    )
    games: Games | None = Field(
        default=None, description="numbers of generated games (without data; null: its fields' own)"
    )
    generator_seed: int | None = Field(
        default=None, ge=0, description="seed of the game generator, >= 0 (without data; null: 0)"
    )
    task_types: tuple[TaskType, ...] | None = Field(
        default=None, min_length=1, description="only games of these types; null for all six"
    )

    def _risky(self) -> bool:
        return self.backend == "stock"

    @model_validator(mode="before")
    @classmethod
    def _fill_in_generation(cls, raw: Any) -> Any:
        return _generated(raw, {"games": {}, "generator_seed": 0})

    def options(self) -> dict[str, Any]:
        common = {"backend": self.backend, "types": self.task_types}
        if self.games is None:
            return common
        return {**common, "games": self.games.model_dump(), "seed": self.generator_seed}

    def problems(self, splits: Collection[str]) -> Iterator[Problem]:
        yield from super().problems(splits)
        yield from _unused(self, self.GENERATED)
        for split in splits:
            if self.games is not None and getattr(self.games, split, 1) == 0:
                yield (
                    ("evaluation.splits", f"env.games.{split}"),
                    f"evaluation.splits: no {split} games are generated (0) -> raise "
                    f"env.games.{split}, or leave the split out",
                )


class ScienceWorldConfig(_Env):
    """Elementary science in text, on the original simulator."""

    SPLITS = ("train", "valid_seen", "valid_unseen")
    ALIASES = MappingProxyType({"dev": "valid_seen", "test": "valid_unseen"})

    name: Literal["scienceworld"] = Field(description="environment: scienceworld")
    data: Path | None = Field(
        default=None, description="folder of ETO's lists of variations; null for all there are"
    )
    task_types: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="only these tasks, such as boil; null for all 30"
    )
    variations: int | None = Field(
        default=None, ge=1, description="at most so many variations per task and split; null: all"
    )
    simplifications: Literal["eto", "none"] | tuple[str, ...] = Field(
        default="eto", description="eto (all that a task allows), none, or their names"
    )
    step_limits: Literal["eto", "none"] = Field(
        default="none", description="the task's own limit of turns: eto (10 to 120), or none"
    )

    def options(self) -> dict[str, Any]:
        return {
            "types": self.task_types,
            "variations": self.variations,
            "simplifications": self.simplifications,
            "step_limits": self.step_limits,
        }

    def problems(self, splits: Collection[str]) -> Iterator[Problem]:
        yield from super().problems(splits)
        yield from _unused(self, ("variations",), "its lists name all variations")


class WebShopConfig(_Env):
    """Shopping for a described product, in a generated catalogue or WebShop's own."""

    SPLITS: ClassVar[tuple[str, ...]] = ("train", "dev", "test")
    LISTED: ClassVar[tuple[str, ...]] = ("train", "test")  # in ETO's lists
    HELD_OUT = ("test",)
    GENERATED = ("products", "generator_seed")

    name: Literal["webshop"] = Field(description="environment: webshop")
    data: Path | None = Field(
        default=None, description="folder of WebShop's three files; null for a generated catalogue"
    )
    products: int | None = Field(
        default=None, ge=1, description="size of the generated catalogue (without data; null: 1000)"
    )
    generator_seed: int | None = Field(
        default=None, ge=0, description="seed of the generated catalogue (without data; null: 0)"
    )
    mode: Literal["text", "text_rich"] = Field(
        default="text", description="how pages are written: text or text_rich"
    )
    goals: Literal["synthetic", "human"] = Field(
        default="synthetic", description="whose instructions: synthetic or human"
    )
    tagger: Literal["rule", "spacy"] = Field(
        default="rule", description="what finds the nouns in titles: rule or spacy"
    )
    page_size: int = Field(
        default=10,
        ge=1,
        le=50,
        description="products on a page of results, 1 to 50; fewer make shorter chats; the "
        "original's: 10",
    )
    lists: Path | None = Field(
        default=None,
        description="folder of ETO's lists of human goals, *train_indices.json and "
        "*test_indices.json: the splits train and test; null for the original's splits",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_generation(cls, raw: Any) -> Any:
        return _generated(raw, {"products": 1000, "generator_seed": 0})

    def options(self) -> dict[str, Any]:
        common: dict[str, Any] = {
            "mode": self.mode,
            "goals": self.goals,
            "tagger": self.tagger,
            "page_size": self.page_size,
        }
        if self.lists is not None:
            common["lists"] = str(self.lists.expanduser().resolve())
        if self.data is not None:
            return common
        return {**common, "products": self.products, "seed": self.generator_seed}

    def folders(self) -> dict[str, Path]:
        return {**super().folders(), **({} if self.lists is None else {"lists": self.lists})}

    def splits(self) -> tuple[str, ...]:
        return self.SPLITS if self.lists is None else self.LISTED

    def problems(self, splits: Collection[str]) -> Iterator[Problem]:
        yield from super().problems(splits)
        yield from _unused(self, self.GENERATED)
        if self.lists is not None and self.goals != "human":
            yield (
                ("env.lists", "env.goals"),
                f"env.lists: counts human goals, and these are others ({self.goals}) -> set "
                "env.goals to human, or remove env.lists",
            )


class CustomConfig(_Env):
    """An environment of somebody's own; see docs/environments.md."""

    name: str = Field(
        pattern=r"^[A-Za-z_][\w.]*(:[A-Za-z_]\w*)?$",
        description="the environment's registered name, or package.module:Class",
    )
    data: Path | None = Field(default=None, description="folder of its files, if it has any")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="keyword arguments for the environment's class"
    )

    def _risky(self) -> bool:
        return True

    def options(self) -> dict[str, Any]:
        return dict(self.arguments)


def _generated(raw: Any, how: dict[str, Any]) -> Any:
    """Something is generated exactly if there is no data; a resolved config says how."""
    if isinstance(raw, dict) and raw.get("data") is None:
        given = {name: value for name, value in raw.items() if value is not None}
        return {**how, **given}
    return raw


def flags_for_data(name: str, folder: Path) -> list[str]:
    """The values of ``--set`` with which a config of this environment plays the files in
    ``folder``, whatever it says about generating them."""
    nothing = [f"env.{field}=null" for field in ENVIRONMENTS[name].GENERATED]
    return [f"env.data={folder}", *nothing]


def _unused(
    env: _Env, names: Collection[str], so: str = "nothing is generated"
) -> Iterator[Problem]:
    for name in names:
        if env.data is not None and getattr(env, name) is not None:
            yield (
                (f"env.{name}", "env.data"),
                f"env.{name}: does nothing, as env.data is given and so {so} -> remove env.{name} "
                f"(--set env.{name}=null) or env.data",
            )


ENVIRONMENTS: dict[str, type[_Env]] = {
    "alfworld": ALFWorldConfig,
    "scienceworld": ScienceWorldConfig,
    "webshop": WebShopConfig,
}


def kind_of(raw: Any) -> str:
    """The environment that a section ``env`` names: one of ours, or ``custom``."""
    if isinstance(raw, _Env | dict):
        raw = raw.get("name", "alfworld") if isinstance(raw, dict) else getattr(raw, "name", "")
    return raw if raw in ENVIRONMENTS else "custom"


def unknown_names(raw: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """The sections ``env`` of a config that name no environment, each with what is wrong."""
    transfer = raw.get("transfer")
    others = transfer if isinstance(transfer, dict) else {}
    sections: list[tuple[Location, Any]] = [((), raw)]
    sections += [(("transfer", name), one) for name, one in others.items()]
    for location, section in sections:
        env = section.get("env") if isinstance(section, dict) else None
        name = env.get("name") if isinstance(env, dict) else env
        if not isinstance(name, str) or name in ENVIRONMENTS or ":" in name:
            continue
        known = sorted({*ENVIRONMENTS, *(one.name for one in entry_points(group=_ENTRY_POINTS))})
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            choice = f"choose of {', '.join(known)}, or name a class: package.module:Class"
            yield (
                (*location, "env"),
                f"{dotted((*location, 'env', 'name'))}: no such environment ({name}) -> "
                + (f"did you mean {close[0]}?" if close else choice),
            )


def held_out(raw: Any) -> tuple[str, ...]:
    """The splits that are evaluated when a config with this section ``env`` names none."""
    return ENVIRONMENTS.get(kind_of(raw), _Env).HELD_OUT


def split_names(raw: Any, splits: Any) -> Any:
    """The names of ``splits`` by which the tasks of an environment with this section ``env`` are
    known, aliases replaced; an alias stays where its split is named as well."""
    if not isinstance(splits, list | tuple):
        return splits
    aliases = ENVIRONMENTS.get(kind_of(raw), _Env).ALIASES
    return [
        aliases[split]
        if isinstance(split, str) and split in aliases and aliases[split] not in splits
        else split
        for split in splits
    ]


def data_problems(env: _Env) -> Iterator[Problem]:
    """Whether the environment's files are there."""
    for field, folder in env.folders().items():
        if not folder.expanduser().is_dir():
            instead = "built-in data" if field == "data" else "the original's splits"
            yield (
                (f"env.{field}",),
                f"env.{field}: no such folder ({folder}) -> check the path, or use null for "
                f"{instead}",
            )


EnvConfig = Annotated[
    Annotated[ALFWorldConfig, Tag("alfworld")]
    | Annotated[ScienceWorldConfig, Tag("scienceworld")]
    | Annotated[WebShopConfig, Tag("webshop")]
    | Annotated[CustomConfig, Tag("custom")],
    Discriminator(kind_of),
]
"""The section ``env``. Its field ``name`` decides which fields there are."""
