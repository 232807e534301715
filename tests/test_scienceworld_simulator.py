"""ScienceWorld's simulators: alone, side by side, in threads, in two processes, after mishaps."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scienceworld_play import WORLDS, Walk, again, walk

from step_ray.envs.base import EnvError, EnvTimeout
from step_ray.envs.scienceworld.pool import SimulatorPool, pool
from step_ray.envs.scienceworld.simulator import UNKNOWN, Simulator
from step_ray.envs.scienceworld.tasks import VARIATIONS

pytest.importorskip("scienceworld", reason="pip install 'step-ray[scienceworld]'")
STEPS = 10


@pytest.fixture(scope="module")
def simulators() -> Iterator[SimulatorPool]:
    made = SimulatorPool(slots_per_jvm=8, timeout=60)
    yield made
    made.close()


@pytest.fixture
def simulator(simulators: SimulatorPool) -> Iterator[Simulator]:
    made = simulators.acquire()
    yield made
    made.release()


@pytest.fixture(scope="module")
def walks(simulators: SimulatorPool) -> list[Walk]:
    """A walk in each world, one after the other in one simulator."""
    alone = simulators.acquire()
    walked = [walk(alone, task, variation, STEPS) for task, variation in WORLDS]
    alone.release()
    return walked


def test_an_episode_in_short(simulator: Simulator) -> None:
    first = simulator.load("lifespan-longest-lived", 3, gold=True)
    gold = simulator.gold_path()
    assert first.startswith("This")
    assert "You also see:" in first
    assert "longest life span" in simulator.task_description()
    assert simulator.score() == (50, False)  # the agent is in the right place already
    steps = simulator.replay(gold)
    ended = next(i for i, step in enumerate(steps) if step.done)
    scores = [step.score for step in steps[: ended + 1]]
    assert scores == sorted(scores)
    assert scores[-1] == 100
    assert simulator.actions == tuple(gold)
    assert "true" in simulator.goal_progress()


def test_a_wrong_focus_ends_the_episode(simulator: Simulator) -> None:
    simulator.load("find-animal", 0)
    step = simulator.step("focus on air")
    assert (step.score, step.done) == (-100, True)


def test_gold_makes_no_difference_to_the_episode(simulator: Simulator, walks: list[Walk]) -> None:
    task, variation = WORLDS[3]
    first = simulator.load(task, variation, gold=True)
    assert first == walks[3][0][1].observation
    actions = [action for action, _ in walks[3][1:]]
    assert simulator.replay(actions) == [step for _, step in walks[3][1:]]


def test_load_after_anything_is_load(simulator: Simulator, walks: list[Walk]) -> None:
    for (task, variation), walked in zip(WORLDS[::-1], walks[::-1], strict=True):
        assert again(simulator, task, variation, walked) == walked


def test_interleaved_simulators_do_not_meet(simulators: SimulatorPool, walks: list[Walk]) -> None:
    side_by_side = [simulators.acquire() for _ in WORLDS]
    for one, (task, variation), walked in zip(side_by_side, WORLDS, walks, strict=True):
        assert one.load(task, variation) == walked[0][1].observation
    for turn in range(1, STEPS + 1):
        for one, walked in zip(side_by_side, walks, strict=True):
            assert (walked[turn][0], one.step(walked[turn][0])) == walked[turn]
    for one in side_by_side:
        one.release()


def test_threads_do_not_meet(simulators: SimulatorPool, walks: list[Walk]) -> None:
    def play(number: int) -> Walk:
        one = simulators.acquire()
        played = again(one, *WORLDS[number], walks[number])
        one.release()
        return played

    with ThreadPoolExecutor(len(WORLDS)) as threads:
        assert list(threads.map(play, range(len(WORLDS)))) == walks
    assert len(simulators.processes) == 1


@pytest.mark.slow
def test_two_processes_agree(simulator: Simulator) -> None:
    others = SimulatorPool()
    one = others.acquire()
    for task in VARIATIONS:
        for variation in (0, 7):
            walked = walk(simulator, task, variation, 40)
            assert again(one, task, variation, walked) == walked, task
    others.close()


def test_simplifications_are_each_simulators_own(simulators: SimulatorPool) -> None:
    easy, hard = simulators.acquire(), simulators.acquire()
    easy.load("boil", 0, "teleportAction,openDoors")
    hard.load("boil", 0)
    assert easy.simplifications() == "openDoors,teleportAction"
    assert hard.simplifications() == ""
    assert easy.step("teleport to kitchen").observation == "You teleport to the kitchen."
    assert hard.step("teleport to kitchen").observation == UNKNOWN
    easy.release()
    hard.release()


# -- what changes nothing --------------------------------------------------------------------------

ODD = ("", " ", "\n", "dan\r\nce", "a\\nb", "\x00", "\ud800", "0", "go to " * 3000)


def test_questions_and_unknown_texts_change_nothing(
    simulator: Simulator, walks: list[Walk]
) -> None:
    for (task, variation), walked in zip(WORLDS, walks, strict=True):
        simulator.load(task, variation)
        for turn, (action, step) in enumerate(walked[1:]):
            assert simulator.step(ODD[turn % len(ODD)]).observation == UNKNOWN
            seen = simulator.look(), simulator.inventory(), simulator.goal_progress()
            assert simulator.valid() == simulator.valid()
            assert simulator.possible_objects()
            assert simulator.possible_actions()
            assert seen == (simulator.look(), simulator.inventory(), simulator.goal_progress())
            assert simulator.step(action) == step


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_any_text_is_answered(simulator: Simulator, text: str) -> None:
    if not simulator.actions:
        simulator.load("find-plant", 0)
    before = simulator.look()
    answer = simulator.step(text).observation
    if answer == UNKNOWN:
        assert simulator.look() == before
    assert simulator.step("inventory").observation.startswith("In your inventory")


def test_a_name_of_several_things_is_asked_about(simulator: Simulator) -> None:
    simulator.load("melt", 21, "openDoors")
    simulator.step("go to kitchen")
    asked = simulator.step("open door").observation
    assert asked.startswith("Ambiguous request: Please enter the number")
    assert simulator.valid() == ["0", "1", "2"]
    assert simulator.step("0").observation == "The door is already open."
    assert "0" not in simulator.valid()


# -- the scripted agent ----------------------------------------------------------------------------


def test_the_script_acts_from_the_present_state(simulator: Simulator) -> None:
    simulator.load("power-component", 2)
    prefix = ["look around", "inventory"]
    simulator.replay(prefix)
    acted = simulator.scripted_path()
    assert acted
    assert simulator.score() == (100, True)
    assert simulator.actions == (*prefix, *acted)
    simulator.load("power-component", 2)
    assert simulator.replay([*prefix, *acted])[-1].score == 100


# -- mishaps ---------------------------------------------------------------------------------------


def test_what_the_engine_does_not_have(simulator: Simulator) -> None:
    with pytest.raises(EnvError, match="boyl"):
        simulator.load("boyl", 0)
    with pytest.raises(EnvError, match="exceeds"):
        simulator.load("boil", 30)
    with pytest.raises(EnvError, match="simplifications"):
        simulator.load("boil", 0, "easy,fewerDoors")
    with pytest.raises(EnvError, match="load"):
        simulator.step("look around")
    simulator.load("boil", 0)
    with pytest.raises(EnvError, match="gold=True"):
        simulator.gold_path()


def test_a_killed_process_goes_unnoticed(walks: list[Walk]) -> None:
    simulators = SimulatorPool(slots_per_jvm=2)
    pair = [simulators.acquire(), simulators.acquire()]
    for one, world in zip(pair, WORLDS, strict=False):
        one.load(*world)
    for turn in range(1, STEPS + 1):
        if turn == 5:
            [killed] = simulators.processes
            os.kill(killed, signal.SIGKILL)
        for one, walked in zip(pair, walks, strict=False):
            assert (walked[turn][0], one.step(walked[turn][0])) == walked[turn]
    assert len(simulators.processes) == 1
    assert simulators.processes != [killed]
    simulators.close()


@pytest.mark.slow
def test_a_slot_that_hangs_is_replaced() -> None:
    simulators = SimulatorPool(slots_per_jvm=3, timeout=20)
    other = simulators.acquire()
    first = other.load("find-plant", 1)
    for number in range(3):
        slot = simulators.lend()
        slot.connection.timeout = 0.1
        with pytest.raises(TimeoutError):
            slot.connection.call("java.lang.Thread", "sleep", 600_000)
        simulators.take_back(slot, stuck=True)
        assert other.load("find-plant", 1) == first
        assert len(simulators.processes) == 1, number
    replaced = simulators.acquire()  # three are stuck: that process takes no new work
    assert replaced.load("find-plant", 1) == first
    [old, _] = simulators.processes
    assert other.load("find-plant", 1) == first
    other.release()
    assert len(simulators.processes) == 1
    assert old not in simulators.processes
    simulators.close()


def test_a_call_past_its_deadline() -> None:
    simulators = SimulatorPool(slots_per_jvm=1)
    one = simulators.acquire()
    first = one.load("find-plant", 1)
    assert one._slot is not None
    one._slot.connection.timeout = simulators.timeout = 3.0  # Java has started by now
    [pid] = simulators.processes
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(EnvTimeout, match="3 s"):
        one.step("look around")
    os.kill(pid, signal.SIGCONT)
    with pytest.raises(EnvError, match="load"):
        one.step("look around")
    assert one.load("find-plant", 1) == first
    simulators.close()


def test_release_during_a_call(simulators: SimulatorPool) -> None:
    one = simulators.acquire()
    one.load("find-plant", 1)
    [pid] = simulators.processes
    os.kill(pid, signal.SIGSTOP)
    raised: list[BaseException] = []

    def step() -> None:
        try:
            one.step("look around")
        except EnvError as error:
            raised.append(error)

    thread = threading.Thread(target=step)
    thread.start()
    while not one._busy.locked():
        threading.Event().wait(0.001)
    one.release()
    thread.join()
    os.kill(pid, signal.SIGCONT)
    assert "released" in str(raised[0])
    other = simulators.acquire()
    assert other.load("boil", 1)
    other.release()


def test_one_thread_at_a_time(simulators: SimulatorPool) -> None:
    one = simulators.acquire()
    one.load("find-plant", 1)
    with one._busy, pytest.raises(EnvError, match="another thread"):
        one.step("look around")
    one.release()


# -- the pool --------------------------------------------------------------------------------------


def test_slots_are_used_again() -> None:
    simulators = SimulatorPool(slots_per_jvm=1)
    for _ in range(2):
        one = simulators.acquire()
        one.load("find-plant", 0)
        one.release()
        one.release()  # does no harm
        forgotten = simulators.acquire()
        forgotten.load("find-plant", 0)
        assert len(simulators.processes) == 1
        del forgotten
    two = [simulators.acquire(), simulators.acquire()]
    for one in two:
        one.load("find-plant", 0)
    assert len(simulators.processes) == 2
    simulators.close()
    assert simulators.processes == []
    with pytest.raises(EnvError, match="closed"):
        one.step("look around")


def test_the_shared_pool() -> None:
    assert pool() is pool()
    assert pool() is not pool(timeout=30)
    for wrong in ({"slots_per_jvm": 0}, {"timeout": 0.0}):
        with pytest.raises(EnvError, match="positive"):
            pool(**wrong)  # type: ignore[arg-type]
