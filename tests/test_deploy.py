"""Every manifest: valid as KubeRay's API server is strict about it, and of one piece with us."""

from __future__ import annotations

import importlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from step_ray._version import __version__
from step_ray.config import RunConfig, load_config, parse_config
from step_ray.config_checks import cautions
from step_ray.envs.alfworld.generate import generate_games
from step_ray.recipes.plan import plan
from tests.kubernetes_schema import GOLDEN, Schemas, used
from tests.kustomize import Resource, key, render
from tests.manifests import (
    DEPLOY,
    FOLDERS,
    ROOT,
    cluster_of,
    config_of,
    everything,
    lacks,
    loose_ends,
    of_ray,
    pods,
)

DATA = os.environ.get("STEP_RAY_TEST_DATA")
needs_crds = pytest.mark.skipif(DATA is None, reason="STEP_RAY_TEST_DATA names no folder")
CONFIGS = ROOT / "jobs" / "configs"
KUEUE = "kueue.x-k8s.io/queue-name"


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/runs and /models as the cluster has them."""
    monkeypatch.setenv("STEP_RAY_RUNS", str(tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    return tmp_path


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_resource_is_valid(folder: str) -> None:
    for resource in render(DEPLOY / folder):
        assert Schemas().problems(resource) == [], key(resource)


@needs_crds
def test_what_is_checked_without_the_crds_is_what_they_say() -> None:
    schemas = Schemas(Path(str(DATA)) / "kuberay")
    for resource in {json.dumps(one): one for one in everything()}.values():
        assert schemas.problems(resource) == [], key(resource)
    now = used(schemas, everything())
    assert json.loads(GOLDEN.read_text()) == now, "python -m tests.kubernetes_schema FOLDER"


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_a_cluster_needs_is_written_out(folder: str) -> None:
    for resource in of_ray(render(DEPLOY / folder)):
        cluster = cluster_of(resource)
        assert cluster["rayVersion"] == "2.60.0"
        assert cluster["authOptions"]["mode"] == "token"
        _scales(resource)
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        for name, pod in pods(resource):
            _is_modest(name, pod)
        if resource["kind"] == "RayJob":
            spec = resource["spec"]
            assert spec["shutdownAfterJobFinishes"]
            assert spec["ttlSecondsAfterFinished"] > 0
            assert spec["backoffLimit"] > 0
        else:
            assert cluster["gcsFaultToleranceOptions"]["redisAddress"]
        if resource["kind"] == "RayService":
            for name, pod in pods(resource):
                if name != "head":
                    assert "probe.py" in str(pod["spec"]["containers"][0]["readinessProbe"])


def _scales(resource: Resource) -> None:
    cluster = cluster_of(resource)
    queued = KUEUE in resource["metadata"].get("labels", {})
    assert cluster["enableInTreeAutoscaling"] == (not queued)  # Kueue admits no other
    assert (cluster.get("autoscalerOptions", {}).get("version") == "v2") == (not queued)
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["replicas"] == group["maxReplicas"] or not queued


def _is_modest(name: str, pod: dict[str, Any]) -> None:
    """No root, no unbounded container, no secret in a file, GPUs only where they are tolerated."""
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert pod["metadata"]["labels"]["app.kubernetes.io/part-of"] == "step-ray"
    assert spec["securityContext"]["runAsNonRoot"], name
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]["limits"]) >= {"cpu", "memory"}
    gpu = "nvidia.com/gpu" in container["resources"]["limits"]
    assert gpu == any(one["key"] == "nvidia.com/gpu" for one in spec.get("tolerations", []))
    assert gpu <= container["image"].partition(":")[0].endswith("gpu")
    assert container["image"].endswith(f":{__version__}")
    assert not any("value" in one for one in container.get("env", []))


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_name_names_something(folder: str) -> None:
    assert list(loose_ends(render(DEPLOY / folder))) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_config_of_a_manifest_loads_and_fits_its_cluster(folder: str, volume: Path) -> None:
    resources = render(DEPLOY / folder)
    config = config_of(resources, volume)
    assert config.output.is_relative_to(volume / "runs")
    assert config.ray.address == "auto"
    assert list(cautions(config)) == []
    for resource in of_ray(resources):
        assert list(lacks(resource, config)) == []
        groups = cluster_of(resource)["workerGroupSpecs"]
        grows = any(not group["minReplicas"] for group in groups if "gpu" in group["groupName"])
        assert not grows or config.ray.wait_seconds >= 1800  # a node, its image, a model
        _gathers(groups, config)


def _gathers(groups: list[dict[str, Any]], config: RunConfig) -> None:
    """A node for one GPU holds a 7B's weights and AdamW's state, to write them."""
    if config.training.parallel == "fsdp":
        for group in groups:
            limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
            if "nvidia.com/gpu" in limits:
                assert float(limits["memory"].removesuffix("Gi")) * 2**30 > 1.2 * 12 * 6.74e9


def test_the_run_is_trained_as_the_config_of_its_scale(volume: Path) -> None:
    paper = load_config(CONFIGS / "alfworld_llama2_7b.yaml", planning=True).training
    ours = config_of(render(DEPLOY / "run"), volume).training
    assert ours == paper.model_copy(update={"workers": ours.workers})


@pytest.mark.parametrize("folder", ["run", "overlays/small"])
def test_the_config_of_a_manifest_can_be_planned(folder: str, volume: Path) -> None:
    data = volume / "models" / "data" / "alfworld"
    for split in ("train", "valid_seen", "valid_unseen"):
        generate_games(data, split, 4, seed=0)  # type: ignore[arg-type]
    planned = plan(config_of(render(DEPLOY / folder), volume))
    for stage in ("golden", "base", "reflected", "step", "evaluation"):
        assert stage in planned


def test_the_documented_run_that_asks_the_service(tmp_path: Path) -> None:
    """Its config is its own, as the service goes on reading that of the others."""
    told = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    section = told.partition("### A run that asks the served teacher")[2]
    asks, overlay = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)[:2]
    model = parse_config({"output": "x", **yaml.safe_load(asks)}).teacher.model  # type: ignore[union-attr]
    (service,) = of_ray(render(DEPLOY / "teacher"))
    name = service["metadata"]["name"]
    assert model.base_url == f"http://{name}-serve-svc:8000/v1"
    assert f"--from-literal={model.key_env}=" in told
    (tmp_path / "run.yaml").write_text(asks)
    text = overlay.replace("../../run", str(DEPLOY / "run"))
    (tmp_path / "kustomization.yaml").write_text(text)
    (job,) = of_ray(resources := render(tmp_path))
    *_, volume = next(pods(job))[1]["spec"]["volumes"]
    assert volume == {"name": "config", "configMap": {"name": "my-run"}}
    configs = {one["metadata"]["name"] for one in resources if one["kind"] == "ConfigMap"}
    assert configs == {"my-run", "step-ray-config"}


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
