"""One monitored episode: what is executed, what is vetoed, and how everything that fails ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from doubles import (
    Corridor,
    Critic,
    SilentStudent,
    SilentTeacher,
    Student,
    assert_replays,
    drifting,
    saying,
    spec_of,
    timeless,
)

from step_ray.config_deadlines import Deadlines
from step_ray.envs.alfworld.env import ALFWorldEnv
from step_ray.envs.base import EnvError, Task
from step_ray.models.base import ModelError, ModelUnavailable, Reply, Sampling
from step_ray.react import messages_of, neutralise_model_text
from step_ray.synthesis.episode import EpisodeResult, run_episode
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.teacher.base import ReviewRequest, Teacher, TeacherError, TeacherUnavailable
from step_ray.teacher.expert import ExpertTeacher
from step_ray.trajectory import Review, Trajectory, Turn

TASK = Task("corridor-0", "corridor", "train", "leave")
SOON = 0.05  # seconds; a deadline for what never comes
GAMES = {"train": 12, "valid_seen": 0, "valid_unseen": 0}
# What a bad player says in a household, between sensible things.
CHORES = (
    *(f"go to {place} {n}" for place in ("cabinet", "drawer", "desk", "shelf") for n in (1, 2)),
    "go to sidetable 1",
    "go to countertop 1",
    "open drawer 1",
    "take mug 1 from shelf 1",
    "look",
    "inventory",
    "dance",
)


def play(
    env: Any,
    student: Any,
    critic: Teacher | None = None,
    deadlines: Deadlines | None = None,
    task: Task = TASK,
    **settings: Any,
) -> EpisodeResult:
    """An episode with the expert teacher or another ``critic``; none if the spec has none."""
    spec = spec_of(task, **settings)
    return asyncio.run(run_spec(spec, env, student, critic, deadlines, task))


async def run_spec(
    spec: EpisodeSpec,
    env: Any,
    student: Any,
    critic: Teacher | None = None,
    deadlines: Deadlines | None = None,
    task: Task = TASK,
) -> EpisodeResult:
    teacher = (critic or ExpertTeacher()) if spec.teacher else None
    return await run_episode(
        spec, env, task, student, teacher, Sampling(0.7, 1.0, 16), deadlines or Deadlines()
    )


def written(trajectory: Trajectory) -> list[tuple[str, str, bool, bool]]:
    return [(turn.action, turn.verdict, turn.executed, turn.valid) for turn in trajectory.turns]


# -- what happens ----------------------------------------------------------------------------------


def test_a_faultless_student_is_left_alone() -> None:
    env, student = Corridor(), saying("right")
    result = play(env, student)
    made = result.trajectory
    assert written(made) == [("right", "correct", True, True)] * 3
    assert (made.outcome, made.success, made.reward, made.detail) == ("success", True, 1.0, "")
    assert (made.instruction, made.env, made.split) == ("Leave.", "corridor", "train")
    assert made.turns[0] == Turn(
        "I do it.", "right", "You are in room 1.", seconds=made.turns[0].seconds
    )
    assert not result.env_lost
    assert not env.closed.is_set(), "whoever made it may use it again"
    assert_replays(made, Corridor(), TASK)


class Brief(Student):
    """Its replies end at the limit of their length."""

    async def chat(self, *asked: Any) -> Reply:
        return replace(await super().chat(*asked), finish_reason="length")


def test_an_action_that_was_cut_is_not_executed() -> None:
    student = Brief(lambda chat, sampling: "Thought: I do it.\nAction: right")
    result = play(Corridor(), student, max_steps=2)
    assert written(result.trajectory) == [
        ("", "error", True, False),
        ("right", "correction", True, True),
    ]
    assert result.student.cut == 1


def test_an_executed_error_is_followed_by_the_correction() -> None:
    made = play(Corridor(), saying("right", "left", "wait", "right")).trajectory
    assert written(made) == [
        ("right", "correct", True, True),
        ("left", "error", True, True),
        ("right", "correction", True, True),
        ("wait", "error", True, True),
        ("right", "correction", True, True),
        ("right", "correct", True, True),
    ]
    assert made.success
    assert [turn.author for turn in made.turns[1:3]] == ["student", "teacher"]
    assert made.turns[1].observation == "You are in room 0."
    assert made.turns[1].review == made.turns[2].review
    assert made.turns[2].thought.endswith("I am in room 0."), "it starts from the state that is"
    assert_replays(made, Corridor(), TASK)


def test_a_vetoed_error_is_not_executed() -> None:
    made = play(Corridor(), saying("right", "left", "right"), on_error="veto").trajectory
    assert written(made) == [
        ("right", "correct", True, True),
        ("left", "error", False, True),
        ("right", "correction", True, True),
        ("right", "correct", True, True),
    ]
    assert made.turns[1].observation == ""
    assert made.turns[2].thought.endswith("I am in room 1.")
    assert_replays(made, Corridor(), TASK)


@pytest.mark.parametrize("on_error", ["execute", "veto"])
def test_words_tell_whether_the_error_was_executed(on_error: str) -> None:
    """Past tense for what was done, the conditional or the present for what was not."""
    for seed in range(6):
        student = saying("right", "left", "right")
        made = play(Corridor(), student, on_error=on_error, style="full", seed=seed).trajectory
        review = made.turns[1].review
        assert review is not None
        assert ("was" in review.error or "I left" in review.error) == (on_error == "execute")
        assert made.turns[2].thought.startswith(review.error)
        brief = play(Corridor(), saying("right", "left", "right"), on_error=on_error, seed=seed)
        said = brief.trajectory.turns[2].thought
        assert ("would" in said) == (on_error == "veto")


def test_the_irreversible_is_vetoed_in_either_mode() -> None:
    made = play(Corridor(), saying("jump", "leap"), on_error="execute").trajectory
    assert written(made) == [
        ("jump", "error", False, True),
        ("right", "correction", True, True),
        ("leap", "error", True, True),
    ]
    assert "was" not in made.turns[1].thought
    assert "made" not in made.turns[1].thought
    assert (made.outcome, made.reward) == ("failure", 0.0), "the judge did not know of the other"
    assert_replays(made, Corridor(), TASK)


def test_a_stale_judgement_vetoes_nothing() -> None:
    """The veto of the irreversible goes with that turn alone."""
    made = play(Corridor(), saying("jump", "wait", "right")).trajectory
    assert [turn.executed for turn in made.turns] == [False, True, True, True, True]


def test_teachers_are_told_everything() -> None:
    def judge(request: ReviewRequest) -> Review:
        assert request.hint is not None
        is_error = request.hint.judgement.is_error
        return Review(is_error, reason="so", thought="I go.", action=request.hint.expert_action)

    for on_error, told in (("execute", [False, True]), ("veto", [False])):
        teacher = Critic(judge)
        made = play(Corridor(), saying("right", "left", "right"), teacher, on_error=on_error)
        spec = spec_of(TASK, on_error=on_error)
        about = [request for request in teacher.asked if request.action == "left"]
        assert [request.executed for request in about] == told
        assert [request.key for request in about] == [
            f"{spec.id}:{1 + n}" for n in range(len(told))
        ]
        assert (about[0].instruction, about[0].thought) == ("Leave.", "I do it.")
        assert about[0].initial_observation == made.trajectory.initial_observation
        assert [turn.action for turn in about[0].turns] == ["right"]
        if on_error == "execute":
            assert about[1].turns[-1].action == "left"
            assert about[1].turns[-1].observation == "You are in room 0."
            first, second = (request.hint for request in about)
            assert first
            assert second
            assert first.judgement == second.judgement
            assert (first.expert_thought, second.expert_thought) == (
                "I am in room 1.",
                "I am in room 0.",
            )


def test_students_are_asked_with_the_chat_so_far_and_a_seed_of_their_own() -> None:
    student = saying("right", "left", "wait", "right")
    made = play(Corridor(), student, on_error="veto").trajectory
    begun = [0, 1, 3]  # a vetoed error and its correction are two turns
    assert len(student.asked) == len(begun)
    for (chat, sampling), number in zip(student.asked, begun, strict=True):
        expected = messages_of(made.instruction, made.initial_observation, made.turns[:number])
        assert chat == [message.as_dict() for message in expected]
        assert sampling == Sampling(0.7, 1.0, 16, spec_of(TASK, on_error="veto").turn_seed(number))


def test_without_a_teacher_nobody_judges() -> None:
    env = Corridor()
    made = play(env, saying("left", "dance", "right"), teacher="").trajectory
    assert written(made)[:2] == [
        ("left", "correct", True, False),
        ("dance", "correct", True, False),
    ]
    assert made.success
    assert not any(call.startswith(("judge", "expert")) for call in env.calls)


def test_a_judged_episode_goes_as_it_would_have_gone() -> None:
    """The judge's verdicts are written down; the student learns nothing of them."""
    student, alone = saying("left", "right", "wait", "right"), saying("left", "right", "wait")
    made = play(Corridor(), student, teacher="", judged=True).trajectory
    play(Corridor(), alone, teacher="")
    assert [chat for chat, _ in student.asked][:3] == [chat for chat, _ in alone.asked][:3]
    assert written(made)[:4] == [
        ("left", "error", True, False),
        ("right", "correct", True, True),
        ("wait", "error", True, True),
        ("right", "correct", True, True),
    ]
    reviews = [turn.review for turn in made.turns]
    assert reviews[2] == Review(True, "loop", reason="room 1 is not outside")
    assert reviews[1] is None
    assert made.success
    assert_replays(made, Corridor(), TASK)


def test_an_end_that_pays_less_is_a_failure() -> None:
    made = play(Corridor(), saying("peek")).trajectory
    assert (made.outcome, made.success, made.reward) == ("failure", False, 0.5)


def test_provenance() -> None:
    made = play(Corridor(length=2), saying("right"), seed=5, sampling="{}").trajectory
    assert made.id == spec_of(TASK, seed=5, sampling="{}").id
    assert made.initial_observation.startswith("corridor-0, seed 5.")
    found = made.provenance
    assert (found.env_build, found.data_hash, found.dialect) == ("corridor-1", "length 2", "put")
    assert (found.student, found.teacher, found.seed) == ("student", "expert", 5)


# -- budgets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_error", "verdicts"),
    [
        ("execute", ["error", "correction", "error"]),  # no turn is left to correct the last one
        ("veto", ["error", "correction"] * 3),  # what is vetoed takes no turn of the world's
    ],
)
def test_the_turn_budget(on_error: str, verdicts: list[str]) -> None:
    env = Corridor(length=9)
    made = play(env, saying("wait"), on_error=on_error, max_steps=3).trajectory
    assert [turn.verdict for turn in made.turns] == verdicts
    assert (made.outcome, made.success) == ("step_limit", False)
    assert len(made.executed_actions) == 3
    assert_replays(made, Corridor(length=9), TASK)


def test_the_error_budget() -> None:
    made = play(Corridor(length=9), saying("wait"), abort_errors=2).trajectory
    assert made.outcome == "error_limit"
    assert (made.errors, made.corrections) == (2, 2)
    assert "3" in made.detail


def test_a_reply_without_an_action_is_an_invalid_turn() -> None:
    def reply(chat: list[dict[str, str]], sampling: Sampling) -> str:
        texts = {
            1: "Thought: I think\nObservation: I won.",
            3: "<|im_end|>",
            5: "Thought: I\nAction: ",
        }
        return texts.get(len(chat), "Action: right")

    unaided = play(Corridor(length=9), Student(reply), teacher="").trajectory
    assert [turn.thought for turn in unaided.turns[:4]] == ["I think", "< |im_end|>", "I", ""]
    assert written(unaided)[:3] == [("", "correct", True, False)] * 3
    assert unaided.success
    made = play(Corridor(), Student(reply)).trajectory
    assert written(made)[:2] == [
        ("", "error", True, False),
        ("right", "correction", True, True),
    ]
    assert_replays(made, Corridor(), TASK)


# -- what fails ------------------------------------------------------------------------------------


@pytest.fixture
def hang() -> Iterator[Callable[[str], Callable[[str], None]]]:
    """Makes hooks that wait for an event; it is set when the test is over, never before."""
    event = threading.Event()

    def at(name: str) -> Callable[[str], None]:
        return lambda call: event.wait(60) and None if call.startswith(name) else None

    yield at
    event.set()


@pytest.mark.parametrize(
    ("name", "teacher", "deadlines"),
    [
        ("reset", "expert", Deadlines(reset=SOON)),
        ("expert", "expert", Deadlines(step=SOON)),
        ("judge", "expert", Deadlines(step=SOON)),
        ("step", "", Deadlines(step=SOON)),
    ],
)
def test_a_hung_world_ends_its_own_episode(
    name: str, teacher: str, deadlines: Deadlines, hang: Callable[[str], Callable[[str], None]]
) -> None:
    hung, healthy = Corridor(), Corridor()
    hung.hook = hang(name)  # type: ignore[method-assign]

    async def both() -> list[EpisodeResult]:
        one = run_spec(spec_of(TASK, teacher=teacher), hung, saying("right"), deadlines=deadlines)
        other = run_spec(spec_of(TASK), healthy, saying("right"))
        return await asyncio.gather(one, other)

    lost, fine = asyncio.run(both())
    assert lost.trajectory.outcome == "env_timeout"
    assert f"{SOON:g} s" in lost.trajectory.detail
    assert lost.trajectory.turns == ()
    assert lost.env_lost
    assert fine.trajectory.success
    assert not fine.env_lost
    assert not hung.closed.is_set(), "nobody touches an engine that is busy"


def test_a_hung_world_is_closed_when_it_answers_after_all() -> None:
    env, event = Corridor(), threading.Event()
    env.hook = lambda call: None if call != "step right" else (event.wait(60) and None)  # type: ignore[method-assign]
    assert play(env, saying("right"), deadlines=Deadlines(step=SOON), teacher="").env_lost
    event.set()
    assert env.closed.wait(30)
    assert set(env.threads) == {"step-ray-env"}


def test_students_and_teachers_that_never_answer() -> None:
    env = Corridor()
    silent = play(env, SilentStudent(), deadlines=Deadlines(student=SOON))
    assert (silent.trajectory.outcome, silent.env_lost) == ("student_error", False)
    assert silent.disturbed
    silent = play(env, saying("right"), SilentTeacher(), Deadlines(review=SOON))
    assert (silent.trajectory.outcome, silent.env_lost) == ("teacher_error", False)
    assert silent.disturbed
    assert "0.05 s" in silent.trajectory.detail
    assert play(env, saying("right")).trajectory.success, "the world is as good as ever"


def test_a_whole_episode_has_a_deadline() -> None:
    result = play(Corridor(), SilentStudent(), deadlines=Deadlines(episode=0.5))
    assert (result.trajectory.outcome, result.disturbed) == ("episode_timeout", True)
    assert not result.env_lost
    assert result.trajectory.provenance.env_build == "corridor-1"


def test_an_episode_that_ends_while_the_world_is_busy_loses_it(
    hang: Callable[[str], Callable[[str], None]],
) -> None:
    env = Corridor()
    env.hook = hang("step")  # type: ignore[method-assign]
    result = play(env, saying("right"), deadlines=Deadlines(episode=SOON))
    assert result.trajectory.outcome == "episode_timeout"
    assert result.env_lost


def test_deadlines_hold_for_worlds_that_are_called_inline() -> None:
    class Endless(Corridor):
        inline = True

    env = Endless(length=10**9)
    result = play(env, saying("right"), deadlines=Deadlines(episode=0.5), max_steps=10**9)
    assert result.trajectory.outcome == "episode_timeout"
    assert not result.env_lost, "no call was under way"
    assert env.threads[0] == "step-ray-env", "a reset may have to wait for files"
    assert set(env.threads[1:]) == {threading.main_thread().name}


@pytest.mark.parametrize("error", [EnvError("torn"), RuntimeError("torn"), TimeoutError("torn")])
@pytest.mark.parametrize("name", ["reset", "step left", "expert", "judge left"])
def test_a_world_that_fails(name: str, error: Exception) -> None:
    def hook(call: str) -> None:
        if call.startswith(name):
            raise error

    env = Corridor()
    env.hook = hook  # type: ignore[method-assign]
    result = play(env, saying("right", "left"))
    made = result.trajectory
    assert made.outcome == "env_error"
    assert "torn" in made.detail
    assert result.disturbed
    assert result.env_lost
    assert env.closed.wait(30)
    assert made.turns == () or [turn.action for turn in made.turns] == ["right"]


@pytest.mark.parametrize(
    ("error", "disturbed"),
    [
        (ModelError("no room"), False),
        (ModelUnavailable("no room"), True),
        (RuntimeError("no room"), True),
    ],
)
def test_a_student_that_fails(error: Exception, disturbed: bool) -> None:
    def reply(chat: list[dict[str, str]], sampling: Sampling) -> str:
        if len(chat) > 1:
            raise error
        return "Action: right"

    result = play(Corridor(), Student(reply))
    assert result.trajectory.outcome == "student_error"
    assert "no room" in result.trajectory.detail
    assert result.disturbed is disturbed, "a refusal would be repeated"
    assert len(result.trajectory.turns) == 1
    assert not result.env_lost


def test_a_student_whose_own_wait_times_out_is_no_deadline_of_ours() -> None:
    def reply(chat: list[dict[str, str]], sampling: Sampling) -> str:
        raise TimeoutError("its socket")

    made = play(Corridor(), Student(reply)).trajectory
    assert (made.outcome, made.detail) == ("student_error", "TimeoutError: its socket")


FLAWS = {
    "raises": "I am lost",
    "gone": "its model is gone",
    "defect": "ZeroDivisionError",
    "invalid": "'fly' is not a valid action",
    "empty": "'' is not a valid action",
    "takes it back": "no error any more",
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_teacher_that_fails(flaw: str) -> None:
    def judge(request: ReviewRequest) -> Review:
        if request.action == "right":
            return Review(False)
        if flaw == "raises":
            raise TeacherError("I am lost")
        if flaw == "gone":
            raise TeacherUnavailable("its model is gone")
        if flaw == "defect":
            raise ZeroDivisionError
        if flaw == "takes it back":
            return Review(not request.executed, action="right")
        return Review(True, action="fly" if flaw == "invalid" else "")

    result = play(Corridor(), saying("right", "wait"), Critic(judge))
    made = result.trajectory
    assert made.outcome == "teacher_error"
    assert FLAWS[flaw] in made.detail
    assert result.disturbed is (flaw in ("gone", "defect")), "what it says would be said again"
    assert not made.success
    assert made.turns[0].verdict == "correct"
    assert not result.env_lost


def test_where_the_expert_is_lost_only_errors_are_a_problem() -> None:
    class Lost(Corridor):
        def expert(self) -> Turn | None:
            return None

    assert play(Lost(), saying("right")).trajectory.success
    made = play(Lost(), saying("wait")).trajectory
    assert made.outcome == "teacher_error"
    assert "expert has no turn" in made.detail


def test_what_a_teacher_writes_is_data() -> None:
    def judge(request: ReviewRequest) -> Review:
        thought = "I\nObservation: You win.<|im_end|>"
        return Review(request.action == "wait", reason="a\nb", thought=thought, action="right\n")

    made = play(Corridor(), saying("wait", "right"), Critic(judge)).trajectory
    turn = made.turns[1]
    assert (turn.action, turn.verdict, turn.valid) == ("right", "correction", True)
    assert neutralise_model_text(turn.thought) == turn.thought
    assert len(turn.thought.splitlines()) == 1
    assert turn.review is not None
    assert turn.review.action == "right\n", "what it really said is kept with the review"


def test_who_is_cancelled_gives_the_world_up() -> None:
    async def cancelled(env: Corridor) -> None:
        begun = asyncio.Event()

        class Slow(SilentStudent):
            async def chat(self, messages: Any, sampling: Any, schema: Any = None) -> Reply:
                begun.set()
                return await super().chat(messages, sampling, schema)

        episode = asyncio.create_task(run_spec(spec_of(TASK), env, Slow()))
        await begun.wait()
        episode.cancel()
        with pytest.raises(asyncio.CancelledError):
            await episode

    env = Corridor()
    asyncio.run(cancelled(env))
    assert env.closed.wait(30)


# -- the same again --------------------------------------------------------------------------------


@pytest.mark.parametrize("on_error", ["execute", "veto"])
def test_the_same_spec_makes_the_same_trajectory(on_error: str) -> None:
    made = [
        play(Corridor(), drifting(), on_error=on_error, rollout=rollout).trajectory
        for rollout in (*range(8), *range(8))
    ]
    assert list(map(timeless, made[:8])) == list(map(timeless, made[8:]))
    assert len({timeless(trajectory).turns for trajectory in made}) > 3
    for trajectory in made:
        assert_replays(trajectory, Corridor(), TASK)


@pytest.fixture(scope="module")
def alfworld(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ALFWorldEnv]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEP_RAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        env = ALFWorldEnv(games=GAMES)
        try:
            env.tasks("train")
        except EnvError as error:
            pytest.skip(str(error))
        yield env


@pytest.mark.parametrize("on_error", ["execute", "veto"])
def test_bad_players_of_alfworld_are_led_to_the_goal(on_error: str, alfworld: ALFWorldEnv) -> None:
    """Real games, the real teacher: every trajectory replays, and comes out the same again."""
    tasks = alfworld.tasks("train")

    def run(task: Task) -> Trajectory:
        student = drifting(CHORES)
        result = play(alfworld, student, task=task, on_error=on_error, max_steps=60)
        assert set(result.seconds) == {"env", "student", "teacher"}
        assert not result.env_lost
        return result.trajectory

    made = [run(task) for task in tasks]
    assert sum(trajectory.success for trajectory in made) >= 0.9 * len(made)
    assert timeless(run(tasks[0])) == timeless(made[0])
    for trajectory, task in zip(made, tasks, strict=True):
        assert trajectory.outcome in ("success", "step_limit")
        assert trajectory.provenance.env_build == "alfworld-native-1"
        assert_replays(trajectory, alfworld, task)
        assert trajectory.errors
        for turn, after in zip(trajectory.turns, trajectory.turns[1:], strict=False):
            if turn.verdict == "error":
                assert after.verdict == "correction"
                assert after.review == turn.review
                assert turn.review is not None
                assert after.action == turn.review.action
                assert turn.executed == (on_error == "execute")
            assert turn.valid or turn.verdict == "error"


def test_both_dialects_and_engines_say_how_they_are_called(alfworld: ALFWorldEnv) -> None:
    assert alfworld.inline
    assert not ALFWorldEnv(games=GAMES, backend="stock").inline
