"""STeCa's computations against slow references that are written from the paper's words."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from functools import cache

import pytest
from doubles import Corridor, Critic, assert_replays, drifting, spec_of, timeless
from hypothesis import given
from hypothesis import strategies as st
from oracle import Oracle

from step_ray.config_deadlines import Deadlines
from step_ray.envs.base import Task
from step_ray.models.base import Sampling
from step_ray.recipes.replay import replay
from step_ray.synthesis.beginning import Beginnings
from step_ray.synthesis.calibrate import (
    Probe,
    action_distance,
    deviates,
    differs,
    expert_parts,
    expert_wholes,
    ndtw,
    own_successes,
    pasted,
    state_of,
    step_rewards,
    weight_of,
)
from step_ray.synthesis.episode import run_episode
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.teacher.expert import ExpertTeacher
from step_ray.teacher.llm import LLMTeacher
from step_ray.teacher.prompts import load_prompts
from step_ray.trajectory import Review, Trajectory, Turn

TASK = Task("corridor-0", "corridor", "train", "leave")
ACTIONS = st.lists(
    st.sampled_from(["go to shelf 1", "go to shelf 2", "take cup 1 from shelf 1", "look", "wait"]),
    min_size=1,
    max_size=6,
)


def slow_ndtw(one: list[str], other: list[str]) -> float:
    """The cheapest of all ways to align two sequences, by trying every one of them."""

    @cache
    def cost(i: int, j: int) -> float:
        here = action_distance(one[i], other[j])
        if (i, j) == (0, 0):
            return here
        before = [(i - 1, j), (i, j - 1), (i - 1, j - 1)]
        return here + min(cost(a, b) for a, b in before if a >= 0 and b >= 0)

    n, m = len(one), len(other)
    return cost(n - 1, m - 1) / math.sqrt(n**2 + m**2)


@given(one=ACTIONS, other=ACTIONS)
def test_ndtw_is_that_of_the_reference(one: list[str], other: list[str]) -> None:
    assert ndtw(one, other) == pytest.approx(slow_ndtw(one, other), abs=1e-12)
    assert ndtw(one, other) == pytest.approx(ndtw(other, one))
    assert ndtw(one, one) == 0.0


def test_ndtw_of_nothing() -> None:
    assert ndtw([], []) == 0.0
    assert ndtw([], ["look"]) == math.inf


def test_distance_of_actions() -> None:
    assert action_distance("go to shelf 1", "Go to  shelf 1") == 0.0
    assert action_distance("look", "wait") == 1.0
    assert action_distance("go to shelf 1", "go to shelf 2") == pytest.approx(1 - 3 / 4)
    assert action_distance("", "look") == 1.0


# --- step rewards: forks of one world, against episodes that are played one by one


def play(
    spec: EpisodeSpec, beginnings: Beginnings | None = None, inline: bool = True, **others: object
) -> Trajectory:
    env = Corridor()
    env.inline = inline
    student = drifting(("right", "right", "leap", "wait"))
    teacher = others.get("teacher")
    result = asyncio.run(
        run_episode(
            spec,
            env,
            TASK,
            student,
            teacher,
            Sampling(1.0),
            Deadlines(),
            None,
            beginnings,  # type: ignore[arg-type]
        )
    )
    return timeless(result.trajectory)


def continuations(actions: tuple[str, ...], count: int) -> list[EpisodeSpec]:
    prefix = tuple(("expert", f"I {action}.", action) for action in actions)
    return [
        spec_of(TASK, teacher="", rollout=number, prefix=prefix, max_steps=6)
        for number in range(count)
    ]


def test_step_rewards_are_those_of_the_reference() -> None:
    """The reference plays the prefix itself, then asks the student turn by turn, in a world of its
    own for every continuation."""
    shared = Beginnings()
    states = [(), ("right",), ("right", "wait"), ("right", "right"), ("leap",)]
    specs = [spec for actions in states for spec in continuations(actions, 7)]
    values = step_rewards(
        [play(spec, shared) for spec in specs], {spec.id: len(spec.prefix) for spec in specs}
    )
    for actions in states:
        outcomes = []
        for spec in continuations(actions, 7):
            env, student, turns = Corridor(), drifting(("right", "right", "leap", "wait")), 0
            first = env.reset(TASK, 0)
            chat = [{"role": "user", "content": f"{first.instruction}\n\n{first.text}"}]
            reward, over = 0.0, False
            while not over and turns < 6:
                if turns < len(actions):
                    text = f"Thought: I {actions[turns]}.\nAction: {actions[turns]}"
                else:
                    sampling = Sampling(1.0, seed=spec.turn_seed(turns))
                    text = asyncio.run(student.chat(chat, sampling)).text
                result = env.step(text.rsplit("Action: ", 1)[1])
                chat += [
                    {"role": "assistant", "content": text},
                    {"role": "user", "content": f"Observation: {result.observation}"},
                ]
                reward, over, turns = result.reward, result.terminated, turns + 1
            outcomes.append(reward)
        assert values[TASK.id, actions] == pytest.approx(sum(outcomes) / 7), actions
    assert len(set(values.values())) > 2, "the states differ in value, or nothing is shown"


def test_a_fork_and_a_replay_are_the_same_episode() -> None:
    shared = Beginnings(size=1)
    for actions in (("right",), ("right", "right"), ("right",), ("dance", "right")):
        for spec in continuations(actions, 3):
            forked, replayed = play(spec, shared), play(spec, inline=False)
            assert forked == replayed
            assert [turn.author for turn in forked.turns[: len(actions)]] == ["expert"] * len(
                actions
            )
            assert_replays(forked, Corridor(), TASK)


def test_a_prefix_is_played_once_and_forked() -> None:
    resets: list[str] = []

    class Watched(Corridor):
        inline = True

        def reset(self, task: Task, seed: int = 0):  # type: ignore[no-untyped-def]
            resets.append(task.id)
            return super().reset(task, seed)

    shared, prefix = Beginnings(), (("expert", "", "right"),)
    worlds = [shared.begin(Watched(), TASK, 0, prefix) for _ in range(5)]
    assert len(resets) == 1
    worlds[0].env.step("right")
    assert [world.env.position for world in worlds] == [2, 1, 1, 1, 1]  # type: ignore[attr-defined]


# --- the deviation test and what follows from it


def test_the_two_rules_of_the_deviation_test() -> None:
    table = [  # of the step, before, won in the end, by the paper (delta 0), by the code
        (0.2, 0.4, False, True, True),
        (0.4, 0.4, False, False, True),
        (0.0, 0.0, False, False, True),
        (0.6, 0.4, False, False, False),
        (0.2, 0.4, True, True, False),
    ]
    for proposed, before, won, paper, code in table:
        assert deviates(proposed, before, won, "paper", 0.0) == paper
        assert deviates(proposed, before, won, "code", 0.0) == code
    assert deviates(0.4, 0.4, True, "paper", 0.1)


def episode(name: str, actions: list[str], reward: float) -> Trajectory:
    turns = tuple(Turn(f"{name} {n}", action, f"seen {action}") for n, action in enumerate(actions))
    won = reward == 1.0
    outcome = "success" if won else "step_limit"
    return Trajectory(
        name, "t", "corridor", "train", "", "Leave.", "Room 0.", turns, reward, won, outcome
    )


def test_what_differs_and_where_the_expert_is_worth_more() -> None:
    golden = episode("g", ["open door 1", "go to shelf 1", "take cup 1"], 1.0)
    same = Probe(golden, episode("e1", ["open door 1", "go to shelf 1", "look"], 0.0), 1)
    near = Probe(golden, episode("e2", ["open door 1", "go to shelf 2"], 0.0), 1)
    last = Probe(golden, episode("e3", ["open door 1", "go to shelf 1", "drop cup 1"], 0.0), 2)
    none = Probe(golden, episode("e4", ["open door 1"], 0.0), 1)
    assert [differs(one, 0.95) for one in (same, near, last, none)] == [False, True, True, False]
    assert not differs(near, 0.7)
    values = {near.after: 0.2, near.expert: 0.6, last.after: 1.0}
    assert expert_parts([near, last], values, 0.01) == [near]
    assert expert_parts([near], values, 0.5) == []
    assert near.before == state_of(golden, 1)


def test_whole_episodes_and_the_way_behind_a_deviation() -> None:
    golden = episode("g", ["open door 1", "go to shelf 1", "take cup 1"], 1.0)
    same = Probe(golden, episode("e1", ["open door 1", "go to shelf 1", "take cup 1"], 1.0), 0)
    other = Probe(golden, episode("e2", ["look", "wait", "wait", "take cup 1"], 1.0), 0)
    late = Probe(golden, same.explored, 1)
    lost = Probe(golden, episode("e3", ["look", "wait"], 0.4), 0)
    probes = [same, other, late, lost]
    assert own_successes(probes, 0.2) == [same], "its own from the first turn on, and near"
    assert own_successes(probes, 9.0) == [same, other]
    assert expert_wholes(probes, 0.01) == [lost]
    assert expert_wholes(probes, 0.7) == []
    theirs = ["open door 1", "go to shelf 1", "take cup 1"]
    assert lost.distance_behind == ndtw(["wait"], theirs)
    assert lost.went_on
    ended = Probe(golden, episode("e4", ["open door 1", "drop cup 1"], 0.0), 1)
    assert not ended.went_on
    assert math.isinf(ended.distance_behind)


def test_weights() -> None:
    assert weight_of("calibration", 0.5, 0.01) == pytest.approx(1.005)
    assert weight_of("expert", 0.5, 0.01) == pytest.approx(1.005)
    assert weight_of("explored", 0.5, 0.01) == pytest.approx(0.995)
    assert weight_of("explored", 5.0, 1.0) == 0.0


# --- calibrations


def calibration(*actions: str, **others: object) -> EpisodeSpec:
    prefix = tuple(
        ("student" if number == len(actions) else "expert", f"I {action}.", action)
        for number, action in enumerate(actions, start=1)
    )
    return spec_of(TASK, prefix=prefix, then="expert", max_steps=9, **others)


def test_the_correction_is_executed_and_the_expert_goes_on() -> None:
    made = play(calibration("right", "left"), teacher=ExpertTeacher())
    assert [(turn.action, turn.author, turn.verdict) for turn in made.turns] == [
        ("right", "expert", "correct"),
        ("left", "student", "error"),
        ("right", "teacher", "correction"),
        ("right", "expert", "correct"),
        ("right", "expert", "correct"),
    ]
    assert made.success
    assert "room 0" in made.turns[2].thought, "it says what the state is after the deviation"
    assert made.turns[1].review == made.turns[2].review
    assert_replays(made, Corridor(), TASK)


def test_a_step_without_fault_but_of_less_value_is_explained_too() -> None:
    made = play(calibration("right", "right", "right"), teacher=ExpertTeacher())
    assert made.outcome == "success", "the deviation itself won: there is nothing to correct"
    made = play(calibration("right", "peek"), teacher=ExpertTeacher())
    assert made.outcome == "failure"
    assert made.corrections == 0
    env_finds_nothing = calibration("right", "right")
    made = play(env_finds_nothing, teacher=ExpertTeacher())
    assert made.turns[1].review is not None
    assert made.turns[1].review.kind == "deviation"
    assert "no likelier" in made.turns[2].thought


def test_the_action_is_the_experts_whatever_the_teacher_says() -> None:
    def wrong(request: object) -> Review:
        return Review(True, "loop", "e", "r", "f", "I see.", "dance")

    made = play(calibration("right", "wait"), teacher=Critic(wrong))
    assert made.turns[2].action == "right"
    assert made.success
    made = play(calibration("right", "wait"), teacher=Critic(lambda request: Review(False)))
    assert made.outcome == "teacher_error"


def test_a_model_is_told_the_action_that_it_words_the_thought_for() -> None:
    model = Oracle()
    teacher = LLMTeacher(model, load_prompts("corridor"), privileged=False, calls="one")
    made = play(calibration("right", "wait"), teacher=teacher)
    assert made.success
    assert made.turns[2].action == "right"
    assert len(model.asked) == 1
    assert "action is settled: right" in model.asked[0][0]["content"]
    assert "expert" not in model.asked[0][0]["content"].rpartition("=== The question")[2]


def test_what_the_original_pastes_is_often_not_what_the_world_does() -> None:
    golden = play(spec_of(TASK, teacher="", prefix=(("expert", "I go.", "right"),) * 3))
    assert golden.success
    explored = play(calibration("right", "left"), teacher=ExpertTeacher())
    probe = Probe(golden, explored, 1)
    world = Corridor()
    assert list(replay(golden, world)) == []
    assert list(replay(explored, world)) == []
    assert any("turn 3" in problem for problem in replay(pasted(probe), world))
    harmless = replace(
        explored, turns=play(calibration("right", "wait"), teacher=ExpertTeacher()).turns
    )
    assert list(replay(pasted(Probe(golden, harmless, 1)), world)) == []


def test_a_pasted_calibration_has_the_recorded_words() -> None:
    recorded = (("I go.", "right", "You are in room 2.", 0.0), ("Out.", "right", "Outside!", 1.0))
    spec = replace(calibration("right", "left"), then="paste", suffix=recorded)
    made = play(spec, teacher=ExpertTeacher())
    assert [(turn.action, turn.observation) for turn in made.turns[2:]] == [
        ("right", "You are in room 2."),
        ("right", "Outside!"),
    ]
    assert made.turns[2].verdict == "correction"
    assert made.success
    assert made.reward == 1.0
