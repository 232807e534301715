"""Our manifests as a cluster would get them, and what of one piece with the rest is not so."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from step_ray.config import RunConfig, load_config
from step_ray.recipes.resources import Need, Node, misfits, needs
from step_ray.recipes.world import PACKAGED_MODEL
from tests.kustomize import Resource, key, render

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
IMAGES = {"step-ray": "Dockerfile", "step-ray-gpu": "Dockerfile.gpu"}
# What a job does of the run; the rest of it is not this cluster's to hold.
_PHASES = {"synthesize.py": ("training", "synthesis"), "train.py": ("training",)}


def everything() -> Iterator[Resource]:
    """Every resource of every folder, as it stands in its file and as it is applied."""
    for path in FILES:
        yield from yaml.safe_load_all((DEPLOY / path).read_text())
    for folder in FOLDERS:
        yield from render(DEPLOY / folder)


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


def loose_ends(resources: list[Resource]) -> Iterator[str]:
    """Names in a folder's resources that name nothing: claims, config, classes, services, files,
    secrets that nobody is told to make, images that nobody builds."""
    names = {key(one) for one in resources}
    (configs,) = [one for one in resources if one["kind"] == "ConfigMap"]
    told = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    secrets = dict(re.findall(r"create secret generic (\S+) --from-literal=(\w+)=", told))
    for resource in of_ray(resources):
        for name, pod in pods(resource):
            yield from (f"{name}: {end}" for end in _of_pod(pod["spec"], names))
        cluster = cluster_of(resource)
        if cluster["authOptions"]["secretName"] not in secrets:
            yield f"authOptions: no secret {cluster['authOptions']['secretName']} is made"
        if store := cluster.get("gcsFaultToleranceOptions"):
            host, _, port = store["redisAddress"].partition(":")
            if not any(
                key(one) == ("Service", host) and one["spec"]["ports"][0]["port"] == int(port)
                for one in resources
            ):
                yield f"redisAddress: no service {host}:{port}"
            wanted = store["redisPassword"]["valueFrom"]["secretKeyRef"]
            if secrets.get(wanted["name"]) != wanted["key"]:
                yield f"redisPassword: no secret {wanted}"
        for said in _config_paths(resource):
            mounts = next(pods(resource))[1]["spec"]["containers"][0]["volumeMounts"]
            if str(Path(said).parent) not in [one["mountPath"] for one in mounts]:
                yield f"{said}: nothing is mounted there"
            if Path(said).name not in configs["data"]:
                yield f"{said}: not in the ConfigMap"
        if resource["kind"] == "RayJob":
            python, script, *_ = shlex.split(resource["spec"]["entrypoint"])
            place = Path(script)
            jobs = Path("/opt/step-ray/jobs")
            if python != "python" or not place.is_relative_to(jobs):
                yield f"entrypoint: {python} {script}"
            elif not (ROOT / "jobs" / place.relative_to(jobs)).is_file():
                yield f"entrypoint: no {script}"


def _of_pod(pod: dict[str, Any], names: set[tuple[str, str]]) -> Iterator[str]:
    if ("PriorityClass", pod["priorityClassName"]) not in names:
        yield f"no priority class {pod['priorityClassName']}"
    volumes = {one["name"]: one for one in pod["volumes"]}
    for container in pod["containers"]:
        image = container["image"].rpartition(":")[0].rpartition("/")[2]
        if image not in IMAGES:
            yield f"no Dockerfile makes {image}"
        for mount in container["volumeMounts"]:
            if mount["name"] not in volumes:
                yield f"no volume {mount['name']}"
    for volume in volumes.values():
        if "configMap" in volume and ("ConfigMap", volume["configMap"]["name"]) not in names:
            yield f"no ConfigMap {volume['configMap']['name']}"
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim and ("PersistentVolumeClaim", claim) not in names:
            yield f"no claim {claim}"


def _config_paths(resource: Resource) -> list[str]:
    """The paths of configs that a resource names."""
    if resource["kind"] == "RayJob":
        return shlex.split(resource["spec"]["entrypoint"])[2:3]
    if resource["kind"] == "RayService":
        said = yaml.safe_load(resource["spec"]["serveConfigV2"])
        return [one["args"]["config"] for one in said["applications"]]
    return []


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


def lacks(resource: Resource, config: RunConfig) -> Iterator[str]:
    """What of a config finds no place on a cluster that has grown as far as it may."""
    groups = cluster_of(resource)["workerGroupSpecs"]
    wanted = [need for need in needs(config) if _is_its(need, resource)]
    yield from misfits(wanted, [node for group in groups for node in _grown(group)])


def _is_its(need: Need, resource: Resource) -> bool:
    if resource["kind"] == "RayService":
        return need.what == "teacher's engine"
    script = Path(shlex.split(resource["spec"].get("entrypoint", "- run.py"))[1]).name
    return need.phase in _PHASES.get(script, (need.phase,))


def _grown(group: dict[str, Any]) -> Iterator[Node]:
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    cpus = float(group["rayStartParams"].get("num-cpus", limits["cpu"]))
    memory = float(limits["memory"].removesuffix("Gi"))
    for number in range(group["maxReplicas"]):
        name = f"{group['groupName']}-{number}"
        labels = group.get("labels", {})
        yield Node(name, cpus, float(limits.get("nvidia.com/gpu", 0)), memory, labels)
