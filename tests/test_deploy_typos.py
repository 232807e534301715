"""A mistake planted in any manifest is caught: names, types, words, sizes, references, configs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from step_ray.config import ConfigError
from step_ray.envs.base import EnvError
from step_ray.recipes.plan import plan
from tests.kubernetes_schema import Schemas
from tests.kustomize import KustomizeError, Resource, key, render
from tests.manifests import DEPLOY, FILES, FOLDERS, cluster_of, config_of, lacks, loose_ends, of_ray
from tests.test_deploy import volume  # noqa: F401 - a fixture

Place = tuple[Any, ...]
WITH_RAY = [folder for folder in FOLDERS if of_ray(render(DEPLOY / folder))]
# Fields whose content is anybody's: a misspelt name in them is another name.
FREE = ("labels", "annotations", "matchLabels", "rayStartParams", "limits", "requests", "data",
        "selector", "nodeSelector")  # fmt: skip


def places(value: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every field and item below ``value``, with its place."""
    pairs = enumerate(value) if isinstance(value, list) else ()
    for name, item in value.items() if isinstance(value, dict) else pairs:
        yield (*path, name), item
        yield from places(item, (*path, name))


def misspelt(resource: Resource) -> Iterator[tuple[Place, Resource]]:
    """Each field of Kubernetes or KubeRay once with a letter too many."""
    for (*inner, name), _ in places(resource):
        if isinstance(name, str) and inner[-1:] not in [[free] for free in FREE]:
            wrong, at = _copy(resource, inner)
            at[f"{name}x"] = at.pop(name)
            if "kind" in wrong:  # without: caught before any schema is chosen
                yield (*inner, name), wrong


def mistyped(resource: Resource) -> Iterator[tuple[Place, Resource]]:
    """Each number, truth and list once as a text that is none."""
    for (*inner, name), value in places(resource):
        if isinstance(value, bool | int | list):
            wrong, at = _copy(resource, inner)
            at[name] = "many words"
            yield (*inner, name), wrong


WORDS = ("mode", "version", "upscalingMode", "apiVersion", "kind", "effect", "operator",
         "imagePullPolicy", "fsGroupChangePolicy", "protocol", "submissionMode", "preemptionPolicy",
         "cpu", "memory", "storage")  # fmt: skip


def misworded(resource: Resource) -> Iterator[tuple[Place, Resource]]:
    """Each word that is one of a few, and each quantity, once with letters too many."""
    for (*inner, name), value in places(resource):
        if name in WORDS and isinstance(value, str) and (*inner, name) != ("kind",):
            wrong, at = _copy(resource, inner)
            at[name] = f"{value}xx"
            yield (*inner, name), wrong


def _copy(resource: Resource, place: list[Any]) -> tuple[Resource, Any]:
    wrong = copy.deepcopy(resource)
    at: Any = wrong
    for step in place:
        at = at[step]
    return wrong, at


Plant = Callable[[Resource], Iterator[tuple[Place, Resource]]]


@pytest.mark.parametrize("plant", [misspelt, mistyped, misworded])
@pytest.mark.parametrize("path", FILES)
def test_a_typo_in_any_field_of_any_resource_is_caught(path: str, plant: Plant) -> None:
    schemas, planted = Schemas(), 0
    for resource in yaml.safe_load_all((DEPLOY / path).read_text()):
        for place, wrong in plant(resource):
            assert not schemas.valid(wrong), f"{key(resource)}: {'.'.join(map(str, place))}"
            planted += 1
    assert planted >= 2


def test_a_typo_in_a_kustomization_is_caught(tmp_path: Path) -> None:
    text = (DEPLOY / "overlays" / "kueue" / "kustomization.yaml").read_text()
    text = text.replace("../../run", str(DEPLOY / "run"))
    for right, wrong in (
        ("images:", "image:"),
        ("name: step-ray-gpu\n", "name: step-ray-gpus\n"),
        ("kind: RayJob", "kind: RayJobs"),
        ("/spec/rayClusterSpec/workerGroupSpecs/2/", "/spec/rayClusterSpec/workerGroupSpecs/3/"),
        ("newTag", "newtag"),
    ):
        assert right in text
        (tmp_path / "kustomization.yaml").write_text(text.replace(right, wrong))
        with pytest.raises(KustomizeError):
            render(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["/etc/step-ray/run.yaml", "/etc/step-ray/run", "step-ray-runs", "step-ray-config",
     "step-ray-token", "step-ray-redis", "step-ray-batch", "step-ray-teacher",
     "/opt/step-ray/jobs/", "step-ray:0.1.0"],
)  # fmt: skip
def test_a_name_that_names_nothing_is_caught(name: str) -> None:
    found = 0
    for folder in WITH_RAY:
        resources = render(DEPLOY / folder)
        for resource in of_ray(resources):
            named = copy.deepcopy(resource)
            _rename(named["spec"], name, name.replace("step-ray", "step-rya"))
            if named != resource:
                others = [one for one in resources if one is not resource]
                assert list(loose_ends([*others, named])), (folder, name)
                found += 1
    assert found


def _rename(value: Any, name: str, other: str) -> None:
    for field, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, str):
            value[field] = item.replace(name, other)
        elif isinstance(item, dict | list):
            _rename(item, name, other)


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [("seed", "seeds", "seeds"), ("seed: 0", "seed: none", "seed"), ("type: ", "type: x", "type"),
     ("name: alfworld", "name: alfwrld", "alfwrld|unknown field"),
     ("address: auto", "address: aut", "address")],
)  # fmt: skip
@pytest.mark.parametrize("folder", WITH_RAY)
def test_a_typo_in_a_config_is_caught(
    folder: str,
    right: str,
    wrong: str,
    says: str,
    volume: Path,  # noqa: F811
) -> None:
    resources = render(DEPLOY / folder)
    (configs,) = [one for one in resources if one["kind"] == "ConfigMap"]
    text = configs["data"]["run.yaml"]
    assert right in text
    configs["data"]["run.yaml"] = text.replace(right, wrong)
    with pytest.raises((ConfigError, EnvError), match=says):
        plan(config_of(resources, volume))


def no_machines(resource: Resource) -> None:
    for group in cluster_of(resource)["workerGroupSpecs"]:
        group["maxReplicas"] = 0


def small_machines(resource: Resource) -> None:
    for group in cluster_of(resource)["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        container["resources"]["limits"] = {"cpu": "0.5", "memory": "1Gi"}
        group["rayStartParams"] = {}


@pytest.mark.parametrize("shrink", [no_machines, small_machines])
@pytest.mark.parametrize("folder", WITH_RAY)
def test_a_config_that_does_not_fit_is_caught(
    folder: str,
    shrink: Callable[[Resource], None],
    volume: Path,  # noqa: F811
) -> None:
    resources = render(DEPLOY / folder)
    config = config_of(resources, volume)
    for resource in of_ray(resources):
        assert list(lacks(resource, config)) == []
        shrink(resource)
        assert list(lacks(resource, config))


def test_episodes_on_nodes_that_no_group_has_are_caught(volume: Path) -> None:  # noqa: F811
    resources = render(DEPLOY / "run")
    config = config_of(resources, volume)
    config = config.model_copy(
        update={"ray": config.ray.model_copy(update={"env_nodes": {"step-ray/kind": "cpus"}})}
    )
    (job,) = of_ray(resources)
    said = list(lacks(job, config))
    assert said[0].startswith("synthesis: 16 of 16 x worker of episodes")
    assert said[0].endswith("there is no node with the labels step-ray/kind=cpus")
