"""Text environments for gymnasium (``pip install "step-ray[gym]"``).

Importing this module registers ``StepRay/ALFWorld-v0``, ``StepRay/ScienceWorld-v0`` and
``StepRay/WebShop-v0``; ``gymnasium.make("step_ray.envs.gym:StepRay/ALFWorld-v0")`` imports it by
itself (gymnasium has had no entry points for plugins since 1.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    import gymnasium
    from gymnasium.spaces import Text
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f'{missing}: step_ray.envs.gym needs gymnasium; pip install "step-ray[gym]"'
    ) from missing

from step_ray.envs import make_env
from step_ray.envs.base import EnvError, Observation, StepResult, Task, TextEnv

IDS = {
    "StepRay/ALFWorld-v0": "alfworld",
    "StepRay/ScienceWorld-v0": "scienceworld",
    "StepRay/WebShop-v0": "webshop",
}
_PRINTABLE = "".join(map(chr, range(32, 127)))


class AnyText(Text):  # type: ignore[misc] # gymnasium is optional, so its types are not looked at
    """Every text of at most ``max_length`` characters; samples are printable ASCII.

    A charset cannot list Unicode. Vectorise with ``shared_memory=False``, which would need one.
    """

    def __init__(self, max_length: int) -> None:
        super().__init__(max_length, min_length=0, charset=_PRINTABLE)

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_length

    def __repr__(self) -> str:
        return f"AnyText({self.max_length})"


class TextEnvGym(gymnasium.Env[str, str]):  # type: ignore[misc]
    """A text environment with gymnasium's face.

    ``env``: an environment (closed with this one), or what ``make_env`` takes with ``data`` and
    ``options``. ``admissible``: whether every info lists the admissible actions, which some engines
    take long for; :meth:`admissible` gives them when they are asked for. ``tasks`` are the split's.

    Rewards are gains of the score, so that they add up to it; the score itself is in the info:

    ==============  ================================================================
    ``task``        id of the task; ``task_type`` and ``split`` say more of it
    ``score``       of the present state, in [0, 1]
    ``success``     whether the episode has ended with score 1
    ``valid``       whether the action was valid (not after reset)
    ``instruction`` the environment's standing instruction (only after reset)
    ``admissible``  the admissible actions, sorted (only if wanted)
    ==============  ================================================================

    There is no limit of steps but the world's own: ``gymnasium.make(..., max_episode_steps=40)``.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 - gymnasium's own form

    def __init__(
        self,
        env: TextEnv | str,
        split: str = "train",
        *,
        data: str | Path | None = None,
        admissible: bool = False,
        max_length: int = 100_000,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(env, str) and (options or data is not None):
            raise EnvError("options and data are for an environment that is given by its name")
        self.text_env = make_env(env, data, **options) if isinstance(env, str) else env
        self.tasks = self.text_env.tasks(split)
        if not self.tasks:
            raise EnvError(f"{self.text_env.name} has no task in split {split}")
        self._task = self.tasks[0]
        self._list_admissible = admissible
        self._score, self._text = 0.0, ""
        self.render_mode = render_mode
        self.action_space = AnyText(1_000)
        self.observation_space = AnyText(max_length)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Starts an episode. ``options={"task": id}`` names its task; else it is drawn from
        gymnasium's generator, as is the environment's own seed: ``seed`` makes both reproducible.

        Raises EnvError for a task that is not in the split.
        """
        super().reset(seed=seed)
        drawn, env_seed = self.np_random.integers((len(self.tasks), 2**31))
        name = (options or {}).get("task")
        self._task = self.tasks[int(drawn)] if name is None else self._named(name)
        self._score = 0.0
        first = self.text_env.reset(self._task, int(env_seed))
        self._text = first.text
        return first.text, self._info(first)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Any text is an action."""
        result = self.text_env.step(action)
        gain, self._score = result.reward - self._score, result.reward
        self._text = result.observation
        return self._text, gain, result.terminated, result.truncated, self._info(result)

    def admissible(self) -> list[str]:
        """The actions that are valid now, sorted."""
        return self.text_env.admissible()

    def render(self) -> str | None:
        """The last observation."""
        return self._text if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Closes the environment as well."""
        self.text_env.close()

    def _named(self, name: str) -> Task:
        for task in self.tasks:
            if task.id == name:
                return task
        where = f"split {self._task.split} of {self.text_env.name}"
        raise EnvError(f"there is no task {name!r} in {where}")

    def _info(self, said: Observation | StepResult) -> dict[str, Any]:
        task = self._task
        info: dict[str, Any] = {"task": task.id, "task_type": task.type, "split": task.split}
        info |= {"score": self._score, "success": False}
        if isinstance(said, StepResult):
            info["success"] = said.reward >= 1.0 and (said.terminated or said.truncated)
            info["valid"] = said.valid
        else:
            info["instruction"] = said.instruction
        if self._list_admissible:
            info["admissible"] = self.text_env.admissible()
        return info


for _id, _name in IDS.items():
    gymnasium.register(_id, entry_point=f"{__name__}:{TextEnvGym.__name__}", kwargs={"env": _name})
