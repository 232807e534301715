"""Strict JSON schemas of the kinds we use, all of them cut from KubeRay's CRDs.

python -m tests.kubernetes_schema FOLDER

A CRD holds the whole schema of a pod, of a service, of a claim and of a network rule, so that of
Kubernetes itself is not needed. An unknown field is an error, as it is for the API server when
asked to be strict. ``golden/kubernetes.json`` holds of these schemas what our manifests use, for
where the CRDs are not; the command writes it anew from the CRDs in FOLDER.
"""

from __future__ import annotations

import copy
import functools
import json
import lzma
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
import yaml

Schema = dict[str, Any]
_CRDS = {"RayCluster": "rayclusters", "RayJob": "rayjobs", "RayService": "rayservices"}
_TEXT: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
GOLDEN = Path(__file__).parent / "golden" / "kubernetes.json"
# Words that the API server takes where the CRDs say only that it is a text.
_WORDS = {
    "effect": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
    "fsGroupChangePolicy": ["OnRootMismatch", "Always"],
    "imagePullPolicy": ["Always", "IfNotPresent", "Never"],
    "operator": ["Exists", "Equal", "In", "NotIn", "DoesNotExist", "Gt", "Lt"],
    "protocol": ["TCP", "UDP", "SCTP"],
    "submissionMode": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"],
}
_NAME_OF_A_PORT = "^[a-z0-9-]{1,15}$"
_MODES = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]
_METADATA: Schema = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "labels": _TEXT, "annotations": _TEXT},
    "additionalProperties": False,
}


class Schemas:
    """Validates resources, by KubeRay's three CRDs in ``folder``, and without it by what of them
    our manifests use."""

    def __init__(self, folder: Path | None = None) -> None:
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
        if self._folder is None:
            return _golden()[kind]
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
        assert self._folder is not None
        path = self._folder / f"ray.io_{_CRDS[kind]}.yaml.xz"
        with lzma.open(path) as file:
            crd = yaml.load(file, Loader=yaml.CSafeLoader)
        version = next(one for one in crd["spec"]["versions"] if one["name"] == "v1")
        strict: Schema = _strict(copy.deepcopy(version["schema"]["openAPIV3Schema"]))
        return strict


@functools.cache
def _golden() -> dict[str, Schema]:
    read: dict[str, Schema] = json.loads(GOLDEN.read_text("utf-8"))
    return read


def used(schemas: Schemas, resources: Iterable[Any]) -> dict[str, Schema]:
    """Of the schema of each kind, what these resources use."""
    by_kind: dict[str, list[Any]] = {}
    for resource in resources:
        by_kind.setdefault(resource["kind"], []).append(resource)
    return {kind: _cut(schemas.of(kind), by_kind[kind]) for kind in sorted(by_kind)}


_KEPT = ("type", "const", "enum", "pattern", "required", "minimum", "maximum", "minItems")


def _cut(schema: Schema, values: list[Any]) -> Schema:
    made = {name: schema[name] for name in _KEPT if name in schema}
    objects = [value for value in values if isinstance(value, dict)]
    items = [item for value in values if isinstance(value, list) for item in value]
    if "properties" in schema:
        made["properties"] = {
            name: _cut(inner, [value[name] for value in objects if name in value])
            for name, inner in sorted(schema["properties"].items())
            if any(name in value for value in objects)
        }
        made["additionalProperties"] = schema.get("additionalProperties", True)
    elif isinstance(inner := schema.get("additionalProperties"), dict):
        made["additionalProperties"] = _cut(
            inner, [one for each in objects for one in each.values()]
        )
    if items:
        made["items"] = _cut(schema["items"], items)
    return made


def _object(properties: Schema, required: list[str] | None = None) -> Schema:
    always = [name for name in ("apiVersion", "kind") if name in properties]
    return {
        "type": "object",
        "properties": properties,
        "required": [*always, *(required or [])],
        "additionalProperties": False,
    }


def _strict(schema: Any, name: str = "") -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        pattern = schema.get("pattern", _NAME_OF_A_PORT)
        return {"type": ["integer", "string"], "pattern": pattern}
    made = {field: _strict(value) for field, value in schema.items()}
    if isinstance(schema.get("properties"), dict):
        made["properties"] = {one: _strict(each, one) for one, each in schema["properties"].items()}
    if name in _WORDS and schema.get("type") == "string":
        made.setdefault("enum", _WORDS[name])
    if name == "accessModes":
        made["items"] = {"type": "string", "enum": _MODES}
    open_to_all = schema.get("x-kubernetes-preserve-unknown-fields")
    has_fields = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if has_fields and not open_to_all:
        made.setdefault("additionalProperties", False)
    return made


def main(folder: Path) -> None:
    """Writes ``golden/kubernetes.json`` anew."""
    from tests.manifests import everything

    text = json.dumps(used(Schemas(folder), everything()), indent=1)
    GOLDEN.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
