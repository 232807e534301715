"""Every manifest: valid as KubeRay's API server is strict about it, and of one piece with us."""

from __future__ import annotations

import copy
import importlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from step_ray.config import RunConfig, load_config
from step_ray.envs.alfworld.generate import generate_games
from step_ray.recipes.plan import plan
from step_ray.recipes.world import PACKAGED_MODEL
from tests.kubernetes_schema import Schemas
from tests.kustomize import KustomizeError, Resource, key, render

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy" / "kubernetes"
FOLDERS = [
    path.parent.relative_to(DEPLOY).as_posix()
    for path in sorted(DEPLOY.rglob("kustomization.yaml"))
]
FILES = [
    path.relative_to(DEPLOY).as_posix()
    for path in sorted(DEPLOY.rglob("*.yaml"))
    if path.name not in ("kustomization.yaml", "run.yaml")
]
RAY_KINDS = ("RayJob", "RayService", "RayCluster")
DATA = os.environ.get("STEP_RAY_TEST_DATA")
needs_crds = pytest.mark.skipif(DATA is None, reason="STEP_RAY_TEST_DATA names no folder")


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas(Path(str(DATA)) / "kuberay")


def of_ray(resources: list[Resource]) -> list[Resource]:
    return [one for one in resources if one["kind"] in RAY_KINDS]


def cluster_of(resource: Resource) -> dict[str, Any]:
    spec = resource["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def pods(resource: Resource) -> Iterator[tuple[str, dict[str, Any]]]:
    cluster = cluster_of(resource)
    yield "head", cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["groupName"], group["template"]


@needs_crds
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_resource_is_valid(folder: str, schemas: Schemas) -> None:
    for resource in render(DEPLOY / folder):
        assert schemas.problems(resource) == [], key(resource)


def misspelt(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of fields whose name is KubeRay's or Kubernetes' own."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from misspelt(item, (*path, number))
    elif isinstance(value, dict):
        for name, item in value.items():
            free = path[-1:] in [(one,) for one in FREE]
            if not free:
                yield (*path, name)
            yield from misspelt(item, (*path, name))


# Fields whose content is anybody's: a misspelt name in them is another name.
FREE = ("labels", "annotations", "matchLabels", "rayStartParams", "limits", "requests", "data",
        "selector", "nodeSelector")  # fmt: skip


@needs_crds
@pytest.mark.parametrize("path", FILES)
def test_a_planted_typo_in_any_field_of_any_resource_is_caught(path: str, schemas: Schemas) -> None:
    planted = 0
    for resource in yaml.safe_load_all((DEPLOY / path).read_text()):
        for *inner, name in misspelt(resource):
            wrong = copy.deepcopy(resource)
            place: Any = wrong
            for step in inner:
                place = place[step]
            place[f"{name}x"] = place.pop(name)
            if (*inner, name) == ("kind",):
                continue  # no kind at all: caught before any schema is chosen
            assert not schemas.valid(wrong), f"{key(resource)}: {'.'.join(map(str, inner))}.{name}"
            planted += 1
    assert planted >= 10


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


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_a_cluster_needs_is_written_out(folder: str) -> None:
    resources = render(DEPLOY / folder)
    names = {key(one) for one in resources}
    for resource in of_ray(resources):
        cluster = cluster_of(resource)
        assert cluster["rayVersion"] == "2.60.0"
        assert cluster["autoscalerOptions"]["version"] == "v2"
        assert cluster["authOptions"] == {"mode": "token", "secretName": "step-ray-token"}
        for group in cluster["workerGroupSpecs"]:
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        for name, pod in pods(resource):
            spec, (container,) = pod["spec"], pod["spec"]["containers"]
            assert pod["metadata"]["labels"]["app.kubernetes.io/part-of"] == "step-ray"
            assert spec["securityContext"]["runAsNonRoot"], name
            assert spec["priorityClassName"] in {
                one for kind, one in names if kind == "PriorityClass"
            }
            assert set(container["resources"]["limits"]) >= {"cpu", "memory"}
            gpu = "nvidia.com/gpu" in container["resources"]["limits"]
            assert gpu == any(one["key"] == "nvidia.com/gpu" for one in spec.get("tolerations", []))
            assert not any(
                "value" in one for one in container.get("env", [])
            )  # no secret in a file
            volumes = {one["name"]: one for one in spec["volumes"]}
            for mount in container["volumeMounts"]:
                volume = volumes[mount["name"]]
                if "persistentVolumeClaim" in volume:
                    claim = volume["persistentVolumeClaim"]["claimName"]
                    assert ("PersistentVolumeClaim", claim) in names
                else:
                    assert ("ConfigMap", volume["configMap"]["name"]) in names
        if resource["kind"] == "RayJob":
            assert resource["spec"]["ttlSecondsAfterFinished"] > 0
            assert resource["spec"]["backoffLimit"] > 0
        else:
            redis = cluster["gcsFaultToleranceOptions"]["redisAddress"].partition(":")[0]
            assert ("Service", redis) in names
        if resource["kind"] == "RayService":
            for name, pod in pods(resource):
                if name != "head":
                    assert "probe.py" in str(pod["spec"]["containers"][0]["readinessProbe"])


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/runs and /models as the cluster has them."""
    monkeypatch.setenv("STEP_RAY_RUNS", str(tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    return tmp_path


def config_of(resources: list[Resource], volume: Path) -> RunConfig:
    """The config of the ConfigMap, with the volumes in ``volume``."""
    (configs,) = [one for one in resources if one["kind"] == "ConfigMap"]
    text = configs["data"]["run.yaml"]
    for word in text.replace(",", " ").split():
        if word.startswith("/models/"):
            place = volume / word.lstrip("/")
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(PACKAGED_MODEL)
    (volume / "run.yaml").write_text(text.replace("/models/", f"{volume}/models/"))
    return load_config(volume / "run.yaml")


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_config_of_a_manifest_loads_and_fits_its_cluster(folder: str, volume: Path) -> None:
    resources = render(DEPLOY / folder)
    config = config_of(resources, volume)
    assert config.output.is_relative_to(volume / "runs")
    assert config.ray.address == "auto"
    for resource in of_ray(resources):
        if resource["kind"] == "RayService":
            continue
        most = {"cpu": 0.0, "gpu": 0.0, "env": 0.0}
        for group in cluster_of(resource)["workerGroupSpecs"]:
            (container,) = group["template"]["spec"]["containers"]
            limits = container["resources"]["limits"]
            cpus = group["rayStartParams"].get("num-cpus", limits["cpu"])
            most["cpu"] += group["maxReplicas"] * float(cpus)
            most["gpu"] += group["maxReplicas"] * float(limits.get("nvidia.com/gpu", 0))
            if config.ray.env_nodes.items() <= group["labels"].items():
                most["env"] += group["maxReplicas"] * float(cpus)
        training = config.training
        if "training" not in resource["metadata"]["name"]:
            assert config.synthesis.workers + 1 <= most["env"]
        assert training.workers <= (most["gpu"] if training.use_gpu else most["cpu"])


@pytest.mark.parametrize("folder", ["run", "overlays/small"])
def test_the_config_of_a_manifest_can_be_planned(folder: str, volume: Path) -> None:
    data = volume / "models" / "data" / "alfworld"
    for split in ("train", "valid_seen", "valid_unseen"):
        generate_games(data, split, 4, seed=0)  # type: ignore[arg-type]
    planned = plan(config_of(render(DEPLOY / folder), volume))
    for stage in ("golden", "base", "reflected", "step", "evaluation"):
        assert stage in planned


@pytest.mark.parametrize("folder", FOLDERS)
def test_entry_points_exist(folder: str) -> None:
    resources = render(DEPLOY / folder)
    (configs,) = [one for one in resources if one["kind"] == "ConfigMap"]
    for resource in of_ray(resources):
        if resource["kind"] == "RayJob":
            python, script, config = shlex.split(resource["spec"]["entrypoint"])
            assert python == "python"
            assert (ROOT / "jobs" / Path(script).relative_to("/opt/step-ray/jobs")).is_file()
            assert Path(config).name in configs["data"]
            assert str(Path(config).parent) in str(next(pods(resource)))


def test_a_planted_typo_in_a_config_is_caught(volume: Path) -> None:
    resources = render(DEPLOY / "run")
    (configs,) = [one for one in resources if one["kind"] == "ConfigMap"]
    configs["data"]["run.yaml"] = configs["data"]["run.yaml"].replace("max_steps", "max_stepz")
    with pytest.raises(ValueError, match="max_stepz"):
        config_of(resources, volume)


@pytest.mark.ray
def test_the_service_is_what_serve_takes() -> None:
    schema = pytest.importorskip("ray.serve.schema")
    (service,) = of_ray(render(DEPLOY / "teacher"))
    said = yaml.safe_load(service["spec"]["serveConfigV2"])
    (application,) = schema.ServeDeploySchema.model_validate(said).applications
    module, _, name = application.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    said["applications"][0]["import_paths"] = said["applications"][0].pop("import_path")
    with pytest.raises(ValueError, match="import_path"):
        schema.ServeDeploySchema.model_validate(said)


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.gpu"])
def test_images_are_pinned_and_run_as_nobody_special(name: str) -> None:
    lines = (ROOT / "deploy" / name).read_text().splitlines()
    (image,) = [line.partition("=")[2] for line in lines if line.startswith("ARG RAY_IMAGE")]
    assert image.startswith("rayproject/ray:2.60.0-py311-")
    users = [line for line in lines if line.startswith("USER")]
    assert users == ["USER 1000:100"]
    pinned = (ROOT / "constraints.txt").read_text()
    for line in lines:
        if line.startswith("ARG KEPT="):
            for package in line.partition("=")[2].strip('"').split("|"):
                assert f"\n{package}==" in pinned, package
    copied = [line.split()[-2] for line in lines if line.startswith("COPY") and "--" not in line]
    for path in copied:
        assert (ROOT / path).exists()
