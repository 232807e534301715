"""Plans from any state, the expert's turns, and their thoughts, on the real simulator."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("scienceworld", reason="pip install 'step-ray[scienceworld]'")

from scienceworld_strays import stray, strays, wander

from step_ray.envs.scienceworld import expert as module
from step_ray.envs.scienceworld.commands import bare, parse, refusal
from step_ray.envs.scienceworld.expert import Expert
from step_ray.envs.scienceworld.follow import follow
from step_ray.envs.scienceworld.pool import SimulatorPool
from step_ray.envs.scienceworld.tasks import simplifications_for
from step_ray.trajectory import Turn

Make = Callable[..., Expert]
TASKS = (
    "find-plant",
    "power-component",
    "chemistry-mix-paint-secondary-color",
    "find-animal",
    "identify-life-stages-2",
    "lifespan-longest-lived",
    "use-thermometer",
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorPool]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEP_RAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        made = SimulatorPool()
        yield made
        made.close()


@pytest.fixture
def make(pool: SimulatorPool) -> Iterator[Make]:
    made: list[Expert] = []

    def expert(task: str, variation: int = 0, simplifications: str = "") -> Expert:
        made.append(Expert(pool, task, variation, simplifications))
        return made[-1]

    yield expert
    for each in made:
        each.close()


def reaches_the_end(expert: Expert, prefix: tuple[str, ...]) -> bool:
    """Whether the plan after ``prefix`` exists, does what it says, and has no refused action."""
    plan = expert.plan(prefix)
    if plan is None:
        return False
    reached = expert.scratch.at((*prefix, *plan))
    assert reached.score == 100
    assert reached.done
    codes = [refusal(event.observation) for event in reached.events[len(prefix) :]]
    assert set(codes) <= {"", "ambiguous"}
    return True


def play(pool: SimulatorPool, expert: Expert, prefix: tuple[str, ...] = ()) -> list[Turn]:
    """The expert's turns from the state after ``prefix`` to the end, in a simulator of its own."""
    sim = pool.acquire()
    problem = expert.problem
    sim.load(problem.task, problem.variation, problem.simplifications)
    sim.replay(prefix)
    turns: list[Turn] = []
    while not sim.score()[1]:
        turn = expert.next_turn(sim.actions, sim)
        assert turn is not None
        observation = sim.step(turn.action).observation
        assert refusal(observation) in ("", "ambiguous"), (turn.action, observation)
        turns.append(turn)
        assert len(turns) < 100
    assert sim.score() == (100, True)
    sim.release()
    return turns


@pytest.mark.parametrize(
    ("task", "preset"),
    [("lifespan-shortest-lived", "none"), ("find-plant", "eto"), ("power-component", "none")],
)
def test_it_plays_to_the_full_score(
    pool: SimulatorPool, make: Make, task: str, preset: str
) -> None:
    turns = play(pool, make(task, 0, simplifications_for(task, preset)))
    assert all(turn.author == "expert" and turn.thought for turn in turns)


@pytest.mark.parametrize(
    ("task", "simplifications"),
    [("find-non-living-thing", ""), ("find-plant", "easy"), ("power-component", "")],
)
def test_after_harmless_deviations_there_is_a_plan(
    make: Make, task: str, simplifications: str
) -> None:
    expert = make(task, 0, simplifications)
    for kind, prefix in strays(expert, task):
        assert reaches_the_end(expert, prefix), (kind, prefix)


def test_the_gold_plan_is_made_once_and_kept_on_disk(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP_RAY_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "_plans", module._Plans())
    plan = make("lifespan-longest-lived", 7).plan(())
    assert plan
    (kept,) = (tmp_path / "scienceworld").rglob("*.json")
    monkeypatch.setattr(module, "_plans", module._Plans())
    again = make("lifespan-longest-lived", 7)
    monkeypatch.setattr(again.scratch, "gold", lambda _: pytest.fail("gold made twice"))
    assert again.plan(()) == plan
    kept.write_text("{half")
    monkeypatch.setattr(module, "_plans", module._Plans())
    assert make("lifespan-longest-lived", 7).plan(()) == plan
    assert kept.read_text() != "{half"


def test_the_rest_of_a_plan_needs_no_new_search(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = make("power-component", 0)
    prefix = ("open door to kitchen", "go to kitchen")
    plan = expert.plan(prefix)
    assert plan
    monkeypatch.setattr(module, "search", lambda *_: pytest.fail("searched although on the plan"))
    for number in range(1, len(plan)):
        assert expert.plan((*prefix, *plan[:number])) == plan[number:]
    # Looking around takes no time and changes nothing.
    assert expert.plan((*prefix, plan[0], "look around", "inventory")) == plan[1:]


def test_a_failed_task_has_no_plan(pool: SimulatorPool, make: Make) -> None:
    expert = make("find-plant", 0)
    sim = pool.acquire()
    sim.load("find-plant", 0)
    failed = ("focus on picture",)
    sim.replay(failed)
    assert expert.plan(failed) is None
    assert expert.next_turn(failed, sim) is None
    sim.release()


def test_a_question_is_answered_with_a_number(make: Make) -> None:
    expert = make("find-plant", 0)
    plan = expert.plan(("open door",))  # there are six
    assert plan
    assert plan[0] == "0"
    assert reaches_the_end(expert, ("open door",))


def test_what_was_left_in_another_room_is_fetched(make: Make) -> None:
    expert = make("use-thermometer", 0)
    plan = expert.plan(()) or ()
    taken = plan.index("pick up thermometer") + 1
    prefix = (*plan[:taken], "go to hallway", "drop thermometer", "go to kitchen")
    assert reaches_the_end(expert, prefix)
    rest = expert.plan(prefix) or ()
    assert "pick up thermometer" in rest
    measured = next(i for i, action in enumerate(rest) if action.startswith("use thermometer"))
    assert rest.index("pick up thermometer") < measured


def test_what_was_undone_is_done_again(make: Make) -> None:
    expert = make("power-component", 0)
    plan = expert.plan(()) or ()
    wired = (*plan[:-1], "disconnect battery")
    assert reaches_the_end(expert, wired)
    short_circuit = (*plan[:-4], "connect battery anode to battery cathode")
    assert reaches_the_end(expert, short_circuit)


def test_a_life_stage_is_waited_for_in_any_pot(make: Make) -> None:
    expert = make("identify-life-stages-2", 2)
    plan = expert.plan(()) or ()
    focused = next(i for i, action in enumerate(plan) if "seedling stage" in action) + 1
    prefix = (*plan[:focused], "wait1", "wait1")
    assert plan[focused + 1] not in (expert.plan(prefix) or ())
    assert reaches_the_end(expert, prefix)


@pytest.mark.parametrize(
    ("prefix", "action"),
    [
        (("focus on table",), "move table to orange box"),
        (("focus on glass cup", "go to outside"), "teleport to kitchen"),
        (("focus on glass cup", "pick up glass cup", "go to outside"), "teleport to kitchen"),
        (("focus on orange box",), ""),  # which does not go into itself
    ],
)
def test_what_else_was_found_is_brought(make: Make, prefix: tuple[str, ...], action: str) -> None:
    expert = make("find-non-living-thing", 63, "easy")
    assert expert.plan(())[1:] == ("focus on bowl", "move bowl to orange box")
    plan = expert.plan(("look around", *prefix))
    assert (plan or ("",))[0] == action
    assert plan is None or reaches_the_end(expert, ("look around", *prefix))


def test_without_a_gold_path_there_is_no_turn(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STEP_RAY_CACHE", str(tmp_path))
    expert = make("find-plant", 101)
    monkeypatch.setattr(expert.scratch, "gold", lambda _: ("look around", "wait1"))
    assert expert.plan(()) is None
    assert expert.plan(("look around",)) is None
    again = make("find-plant", 101)  # it is remembered: looking for it may take minutes
    monkeypatch.setattr(again.scratch, "gold", None)
    assert again.plan(()) is None


def test_thoughts_are_reproducible_and_varied(pool: SimulatorPool, make: Make) -> None:
    turns = play(pool, make("use-thermometer", 0))
    sim = pool.acquire()
    sim.load("use-thermometer", 0)
    assert make("use-thermometer", 0).next_turn((), sim) == turns[0]
    sim.release()
    thoughts = [turn.thought for turn in turns]
    assert len(set(thoughts)) > 0.9 * len(thoughts)
    assert all(thought[0].isupper() and thought.endswith(".") for thought in thoughts)
    assert all("{" not in thought and "  " not in thought for thought in thoughts)
    assert "measure the temperature of unknown substance B" in thoughts[0]
    assert "which is below 100.0" in thoughts[-1]  # the reason for the box
    pick = next(turn for turn in turns if turn.action == "pick up thermometer")
    assert "measure temperatures" in pick.thought


def test_thoughts_do_not_know_what_was_not_seen(pool: SimulatorPool, make: Make) -> None:
    for turn in play(pool, make("find-plant", 0)):
        if turn.action.startswith("focus"):
            break
        assert "tree" not in turn.thought  # that it is one is seen in the greenhouse
        assert "a plant" in turn.thought


def test_it_looks_around_before_it_acts_in_a_room(pool: SimulatorPool, make: Make) -> None:
    expert = make("use-thermometer", 0)
    looked = {"hallway"}
    prefix: tuple[str, ...] = ()
    for turn in play(pool, expert):
        room = expert.scratch.at(prefix).room
        verb, item = parse(turn.action).verb, parse(turn.action).item
        if verb == "look":
            looked.add(room)
        elif verb != "go" and not item.startswith("door"):
            assert room in looked, turn.action
        prefix = (*prefix, turn.action)


@pytest.mark.parametrize(
    ("task", "action"),
    [
        ("lifespan-longest-lived", "focus on baby brown bear"),  # its script: baby baby brown bear
        ("find-living-thing", "move blue jay to red box"),  # egg blue jay egg in inventory
    ],
)
def test_it_calls_things_as_they_read(
    pool: SimulatorPool, make: Make, task: str, action: str
) -> None:
    expert = make(task, 0, "easy")
    turns = play(pool, expert)
    assert turns[-1].action == action
    for number, turn in enumerate(turns):
        read = expert.scratch.at([done.action for done in turns[:number]]).text
        if parse(turn.action).verb in ("focus", "pick", "move"):
            assert bare(parse(turn.action).item) in read


def test_it_does_not_look_twice_at_the_same(pool: SimulatorPool, make: Make) -> None:
    expert = make("find-plant", 0)
    prefix = ("open door to greenhouse", "go to greenhouse", "look around")
    turns = play(pool, expert, prefix)
    assert turns[0].action.startswith("focus on")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("simplifications", ["", "easy"])
def test_corrections_reach_the_full_score_from_nine_states_in_ten(
    make: Make, simplifications: str
) -> None:
    counts = {"stray": [0, 0], "wander": [0, 0]}
    for task in TASKS:
        for variation in (0, 3, 5, 8):
            expert = make(task, variation, simplifications)
            for kind, prefix in strays(expert, f"{task} {variation}"):
                counts[kind][0] += reaches_the_end(expert, prefix)
                counts[kind][1] += 1
            expert.close()
    for kind, (reached, states) in counts.items():
        assert reached >= 0.9 * states, (kind, reached, states)


@pytest.mark.slow
def test_a_gold_path_of_other_simplifications_may_do(make: Make) -> None:
    expert = make("grow-fruit", 0, simplifications_for("grow-fruit", "eto"))
    assert not follow(expert.scratch, (), expert.scratch.gold(expert.problem.simplifications))
    assert reaches_the_end(expert, ())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("task", ["melt", "chemistry-mix", "grow-plant", "test-conductivity"])
def test_long_tasks_survive_a_stray(make: Make, task: str) -> None:
    expert = make(task, 1)
    gold = expert.plan(()) or ()
    half = gold[: len(gold) // 2]
    assert reaches_the_end(expert, stray(expert, half, 2, random.Random(task)))
    assert reaches_the_end(expert, wander(expert, half, random.Random(task)))
