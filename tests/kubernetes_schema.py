"""Strict JSON schemas of the kinds we use, all of them cut from KubeRay's CRDs.

A CRD holds the whole schema of a pod, of a service, of a claim and of a network rule, so that of
Kubernetes itself is not needed. An unknown field is an error, as it is for the API server when
asked to be strict.
"""

from __future__ import annotations

import copy
import functools
import lzma
from pathlib import Path
from typing import Any

import jsonschema
import yaml

Schema = dict[str, Any]
_CRDS = {"RayCluster": "rayclusters", "RayJob": "rayjobs", "RayService": "rayservices"}
_TEXT: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA: Schema = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "labels": _TEXT, "annotations": _TEXT},
    "additionalProperties": False,
}


class Schemas:
    """Validates resources; ``folder`` holds KubeRay's three CRDs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def problems(self, resource: Any) -> list[str]:
        """What is wrong with a resource, each with its place."""
        return [
            f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"
            for error in self._validator(str(resource.get("kind"))).iter_errors(resource)
        ]

    def valid(self, resource: Any) -> bool:
        """Whether nothing is wrong; quicker than to say what."""
        return bool(self._validator(str(resource.get("kind"))).is_valid(resource))

    @functools.cache  # noqa: B019 - one object for all tests
    def _validator(self, kind: str) -> Any:
        return jsonschema.Draft202012Validator(self.of(kind))

    def of(self, kind: str) -> Schema:
        """The strict schema of a kind."""
        if kind in _CRDS:
            whole = self._crd(kind)
            properties = {**whole["properties"], "metadata": _METADATA}
            properties["apiVersion"] = {"const": "ray.io/v1"}
            properties.pop("status", None)
            return _object({**properties, "kind": {"const": kind}}, ["metadata", "spec"])
        spec = self._crd("RayCluster")["properties"]["spec"]["properties"]
        pod = spec["headGroupSpec"]["properties"]["template"]
        rules = spec["networkPolicy"]["properties"]["head"]["properties"]
        selector = rules["ingressRules"]["items"]["properties"]["from"]["items"]["properties"][
            "podSelector"
        ]
        volume = pod["properties"]["spec"]["properties"]["volumes"]["items"]["properties"]
        claim = volume["ephemeral"]["properties"]["volumeClaimTemplate"]["properties"]["spec"]
        service = spec["headGroupSpec"]["properties"]["headService"]["properties"]["spec"]
        number, text = {"type": "integer"}, {"type": "string"}
        deployment = {
            "replicas": number,
            "selector": selector,
            "template": pod,
            "strategy": _object({"type": {"enum": ["Recreate", "RollingUpdate"]}}),
        }
        policy = {
            "podSelector": selector,
            "policyTypes": {"type": "array", "items": {"enum": ["Ingress", "Egress"]}},
            "ingress": rules["ingressRules"],
            "egress": rules["egressRules"],
        }
        found = {
            "ConfigMap": ("v1", {"data": _TEXT}),
            "PersistentVolumeClaim": ("v1", {"spec": claim}),
            "Service": ("v1", {"spec": service}),
            "Deployment": ("apps/v1", {"spec": _object(deployment, ["selector", "template"])}),
            "NetworkPolicy": (
                "networking.k8s.io/v1",
                {"spec": _object(policy, ["podSelector"])},
            ),
            "PriorityClass": (
                "scheduling.k8s.io/v1",
                {
                    "value": number,
                    "description": text,
                    "preemptionPolicy": {"enum": ["Never", "PreemptLowerPriority"]},
                },
            ),
        }
        if kind not in found:
            raise KeyError(f"no schema for the kind {kind}")
        version, fields = found[kind]
        common = {"apiVersion": {"const": version}, "kind": {"const": kind}, "metadata": _METADATA}
        return _object({**common, **fields}, ["metadata", *fields][:2])

    @functools.cache  # noqa: B019
    def _crd(self, kind: str) -> Schema:
        path = self._folder / f"ray.io_{_CRDS[kind]}.yaml.xz"
        with lzma.open(path) as file:
            crd = yaml.load(file, Loader=yaml.CSafeLoader)
        version = next(one for one in crd["spec"]["versions"] if one["name"] == "v1")
        strict: Schema = _strict(copy.deepcopy(version["schema"]["openAPIV3Schema"]))
        return strict


def _object(properties: Schema, required: list[str] | None = None) -> Schema:
    always = [name for name in ("apiVersion", "kind") if name in properties]
    return {
        "type": "object",
        "properties": properties,
        "required": [*always, *(required or [])],
        "additionalProperties": False,
    }


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {name: _strict(value) for name, value in schema.items()}
    open_to_all = schema.get("x-kubernetes-preserve-unknown-fields")
    has_fields = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if has_fields and not open_to_all:
        made.setdefault("additionalProperties", False)
    return made
