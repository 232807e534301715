"""Every row of the judge's table, and what must not be called an error, on the real simulator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("scienceworld", reason="pip install 'step-ray[scienceworld]'")

from step_ray.envs.base import Judgement
from step_ray.envs.scienceworld.expert import Expert
from step_ray.envs.scienceworld.judge import judge
from step_ray.envs.scienceworld.pool import SimulatorPool
from step_ray.envs.scienceworld.simulator import Simulator

Actions = tuple[str, ...]


TASKS = {
    "plant": ("find-plant", ""),
    "thermometer": ("use-thermometer", ""),
    "teleport": ("use-thermometer", "easy"),
    "circuit": ("power-component", ""),
    "paint": ("chemistry-mix-paint-secondary-color", ""),
    "thing": ("find-non-living-thing", "easy"),
}


class World:
    """One task, its expert and a simulator that is led to a state before each judgement."""

    def __init__(self, pool: SimulatorPool, task: str, simplifications: str) -> None:
        self.task, self.simplifications = task, simplifications
        self.expert = Expert(pool, task, 0, simplifications)
        self.sim: Simulator = pool.acquire()
        self.sim.load(task, 0, simplifications)

    def judged(self, prefix: Actions, action: str) -> Judgement:
        if self.sim.actions != prefix:
            self.sim.load(self.task, 0, self.simplifications)
            self.sim.replay(prefix)
        before = self.seen()
        found = judge(self.expert, prefix, self.sim, action)
        assert before == self.seen()
        return found

    def seen(self) -> tuple[object, ...]:
        return (self.sim.actions, self.sim.look(), self.sim.inventory(), self.sim.score())


class Worlds:
    """One world at a time: old simulators are quicker than new ones."""

    def __init__(self, pool: SimulatorPool) -> None:
        self.pool = pool
        self.name = ""
        self.world: World | None = None

    def __getitem__(self, name: str) -> World:
        if self.world is None or self.name != name:
            if self.world:
                self.world.expert.close()
                self.world.sim.release()
            self.name, self.world = name, World(self.pool, *TASKS[name])
        return self.world


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEP_RAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        pool = SimulatorPool()
        yield Worlds(pool)
        pool.close()


START: Actions = ()
GREENHOUSE = ("open door to greenhouse", "go to greenhouse")
SEEN = (*GREENHOUSE, "look around")
KITCHEN = ("open door to kitchen", "go to kitchen", "look around")
HOLDS = (*KITCHEN, "pick up thermometer")
SINGLE = ("go to kitchen", "look around", "pick up thermometer", "focus on thermometer")
WORKSHOP = ("open door to workshop", "go to workshop", "look around", "focus on red light bulb")
WIRED = (
    *WORKSHOP,
    "connect battery anode to black wire terminal 1",
    "connect battery cathode to orange wire terminal 1",
)
STUDIO = ("open door to art studio", "go to art studio", "look around")
SINK = ("go to kitchen", "look around")
POURED = (*STUDIO, "pour cup containing blue paint in art studio in jug")


@pytest.mark.parametrize(
    ("world", "prefix", "action", "cause"),
    [
        ("plant", START, "foo", "no_command"),
        ("plant", START, "", "no_command"),
        ("plant", START, "teleport to kitchen", "no_command"),
        ("plant", START, "5", "no_command"),
        ("plant", START, "go to kitchen", "door_closed"),
        ("plant", START, "go to bathroom", "not_next"),
        ("plant", START, "open door to bathroom", "no_such_door"),
        ("plant", START, "pick up unicorn", "no_such_thing"),
        ("plant", START, "drop jug in inventory", "not_held"),
        ("plant", START, "close door to kitchen", "already"),
        ("plant", START, "activate picture", "no_device"),
        ("plant", START, "pick up air", "cannot_move"),
        ("plant", SEEN, "mix jug", "empty"),
        ("plant", ("open door",), "look around", "asked_number"),
        ("plant", ("open door",), "77", "asked_number"),
        ("thermometer", KITCHEN, "move thermometer to fridge", "closed"),
        ("thermometer", KITCHEN, "look in fridge", "closed"),
        ("thermometer", KITCHEN, "open chair", "cannot_open"),
    ],
)
def test_invalid(worlds: Worlds, world: str, prefix: Actions, action: str, cause: str) -> None:
    found = worlds[world].judged(prefix, action)
    facts = dict(found.facts)
    assert (found.is_error, found.kind, facts["cause"]) == (True, "invalid", cause)
    assert facts["why"]
    assert not found.irreversible


@pytest.mark.parametrize(
    ("world", "prefix", "action", "kind"),
    [
        # loop
        ("plant", ("look around",), "look around", "loop"),
        ("plant", SEEN, "look around", "loop"),
        ("plant", ("inventory",), "inventory", "loop"),
        ("plant", ("examine picture", "inventory"), "examine picture", "loop"),
        ("plant", ("open door", "0", "open door"), "0", "invalid"),
        ("teleport", SINGLE[:2], "teleport to kitchen", "loop"),
        (
            "plant",
            ("open door to kitchen", "go to kitchen", "go to hallway", "go to kitchen"),
            "go to hallway",
            "",  # it is the way to the greenhouse
        ),
        # wrong object
        ("plant", START, "pick up picture", "wrong_object"),
        ("plant", START, "eat orange", "wrong_object"),
        ("thermometer", KITCHEN, "pick up chair", "wrong_object"),
        ("thermometer", KITCHEN, "activate stove", "wrong_object"),
        pytest.param(
            "paint",
            STUDIO,
            "pour cup containing red paint in art studio in jug",
            "wrong_object",
            marks=pytest.mark.slow,  # a long search finds another cup
        ),
        # misplaced
        ("teleport", SINGLE, "move thermometer to sink", "misplaced"),
        ("circuit", WORKSHOP, "connect battery anode to battery cathode", "misplaced"),
        # undo
        ("plant", GREENHOUSE, "close door to hallway", "undo"),
        ("thermometer", HOLDS, "drop thermometer", "undo"),
        ("circuit", WIRED, "disconnect battery", "undo"),
        ("circuit", WIRED, "pick up battery", "undo"),
        ("circuit", WIRED, "reset task", "undo"),
        # detour
        ("plant", SEEN, "go to hallway", "detour"),
        ("plant", START, "wait", "detour"),
        ("thermometer", KITCHEN, "go to hallway", "detour"),
        ("teleport", SINGLE, "go to bathroom", "detour"),
        ("teleport", SINGLE, "teleport to bedroom", "detour"),
        # wrong focus that does not fail the task
        ("circuit", WORKSHOP, "focus on battery", "wrong_focus"),
    ],
)
def test_errors_that_can_be_mended(
    worlds: Worlds, world: str, prefix: Actions, action: str, kind: str
) -> None:
    found = worlds[world].judged(prefix, action)
    assert found.kind == kind
    assert found.is_error == bool(kind)
    assert not found.irreversible
    if kind:
        facts = dict(found.facts)
        assert facts["why"]
        if kind != "invalid":
            assert facts["do"]
            assert facts["did"]


@pytest.mark.parametrize(
    ("world", "prefix", "action", "kind"),
    [
        ("plant", START, "focus on picture", "wrong_focus"),
        ("thermometer", KITCHEN, "focus on chair", "wrong_focus"),
        ("paint", STUDIO, "focus on blue paint", "wrong_focus"),
        ("paint", POURED, "pour cup containing red paint in art studio in jug", "harmful"),
        ("thing", SINK, "focus on red box", "harmful"),
    ],
)
def test_errors_that_cannot_be_mended(
    worlds: Worlds, world: str, prefix: Actions, action: str, kind: str
) -> None:
    found = worlds[world].judged(prefix, action)
    assert (found.is_error, found.kind, found.irreversible) == (True, kind, True)


@pytest.mark.parametrize(
    ("world", "prefix", "action"),
    [
        # the first look, inventory, examination
        ("plant", START, "look around"),
        ("plant", START, "inventory"),
        ("plant", START, "task"),
        ("plant", START, "examine picture"),
        ("plant", GREENHOUSE, "look around"),
        ("plant", SEEN, "look in jug"),
        ("plant", ("look at picture", "open door to kitchen"), "inventory"),
        # doors and containers
        ("plant", START, "open door to bedroom"),
        ("plant", SEEN, "open bee hive"),
        ("thermometer", KITCHEN, "open fridge"),
        # a room not seen yet
        ("plant", ("open door to workshop",), "go to workshop"),
        ("plant", (*GREENHOUSE, "open door to outside"), "go to outside"),
        # a name that fits several things
        ("plant", START, "open door"),
        ("plant", ("open door",), "0"),
        ("plant", ("open door",), "3"),
        # other orders, other things that serve as well
        ("circuit", WORKSHOP, "connect battery cathode to orange wire terminal 1"),
        ("circuit", WORKSHOP, "pick up battery"),
        ("plant", SEEN, "pick up flower pot 2"),
        ("thermometer", KITCHEN, "focus on thermometer"),
        ("paint", STUDIO, "pour cup containing yellow paint in art studio in jug"),
        ("paint", POURED, "pour cup containing yellow paint in art studio in jug"),
        ("teleport", SINGLE, "teleport to living room"),
        ("thing", SINK, "focus on table"),
        # what was set going needs time
        ("circuit", WIRED, "wait1"),
        # what is not needed may be put down
        ("plant", START, "drop orange"),
    ],
)
def test_no_errors(worlds: Worlds, world: str, prefix: Actions, action: str) -> None:
    assert worlds[world].judged(prefix, action) == Judgement(False)


@pytest.mark.parametrize("world", ["plant", "circuit"])
def test_the_expert_makes_no_errors(worlds: Worlds, world: str) -> None:
    played = worlds[world]
    played.judged((), "inventory")
    prefix: Actions = ()
    while not played.sim.score()[1]:
        turn = played.expert.next_turn(prefix, played.sim)
        assert turn is not None
        assert not played.judged(prefix, turn.action).is_error, turn.action
        played.sim.step(turn.action)
        prefix = (*prefix, turn.action)


def test_a_correction_is_no_error(worlds: Worlds) -> None:
    """After an error that was executed the expert's turn is right."""
    world = worlds["thermometer"]
    prefix = (*HOLDS, "drop thermometer")
    world.judged(prefix, "task")
    turn = world.expert.next_turn(prefix, world.sim)
    assert turn is not None
    assert turn.action.startswith("pick up thermometer")
    assert not world.judged(prefix, turn.action).is_error


def test_facts_word_the_action(worlds: Worlds) -> None:
    facts = dict(worlds["plant"].judged(START, "pick up picture").facts)
    assert facts["do"] == "pick up picture"
    assert facts["did"] == "picked up picture"
    assert facts["why"] == "the task has no use for the picture"
