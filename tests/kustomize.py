"""What `kubectl kustomize` makes of our folders: the few features they use, and no other.

A field that is not known here is an error, so that a typo in a kustomization is caught too.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

Resource = dict[str, Any]
_FIELDS = {
    "apiVersion", "kind", "resources", "configMapGenerator", "generatorOptions", "labels",
    "patches", "images",
}  # fmt: skip


class KustomizeError(ValueError):
    """A kustomization says something that Kustomize, or this, does not take."""


def render(folder: Path) -> list[Resource]:
    """The resources that a folder stands for."""
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    _only(said, _FIELDS, folder)
    if (said["apiVersion"], said["kind"]) != ("kustomize.config.k8s.io/v1beta1", "Kustomization"):
        raise KustomizeError(f"{folder}: not a Kustomization")
    _only(said.get("generatorOptions", {}), {"disableNameSuffixHash"}, folder)
    found: list[Resource] = []
    for name in said["resources"]:
        path = folder / name
        new = render(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
        clash = {key(one) for one in new} & {key(one) for one in found}
        if clash:
            raise KustomizeError(f"{folder}: {clash} is there twice")
        found += new
    for one in said.get("configMapGenerator", []):
        _config_map(one, said.get("generatorOptions", {}), folder, found)
    for one in said.get("labels", []):
        _only(one, {"pairs"}, folder)
        for resource in found:
            resource["metadata"].setdefault("labels", {}).update(one["pairs"])
    for one in said.get("images", []):
        _only(one, {"name", "newName", "newTag"}, folder)
        if not _image(found, one):
            raise KustomizeError(f"{folder}: no container has the image {one['name']}")
    for one in said.get("patches", []):
        _patch(one, folder, found)
    return found


def key(resource: Resource) -> tuple[str, str]:
    """What a resource is known by."""
    return resource["kind"], resource["metadata"]["name"]


def _config_map(one: Any, options: Any, folder: Path, found: list[Resource]) -> None:
    _only(one, {"name", "behavior", "files"}, folder)
    if options != {"disableNameSuffixHash": True}:
        raise KustomizeError(f"{folder}: a hash in a name would not be found by Ray's kinds")
    data = {}
    for file in one["files"]:
        path = (folder / file).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise KustomizeError(f"{folder}: {file} is outside, which Kustomize refuses")
        data[path.name] = path.read_text()
    made = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": one["name"]},
        "data": data,
    }
    there = [old for old in found if key(old) == key(made)]
    if bool(there) != (one.get("behavior", "create") == "replace"):
        raise KustomizeError(f"{folder}: ConfigMap {one['name']} is {'' if there else 'not '}there")
    if there:
        there[0]["data"] = data
    else:
        found.append(made)


def _patch(one: Any, folder: Path, found: list[Resource]) -> None:
    _only(one, {"target", "patch"}, folder)
    _only(one["target"], {"kind", "name"}, folder)
    targets = [
        resource
        for resource in found
        if resource["kind"] == one["target"]["kind"]
        and one["target"].get("name") in (None, resource["metadata"]["name"])
    ]
    if not targets:
        raise KustomizeError(f"{folder}: {one['target']} is nobody")
    patch = jsonpatch.JsonPatch(yaml.safe_load(one["patch"]))
    for resource in targets:
        try:
            patched = patch.apply(copy.deepcopy(resource))
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
            raise KustomizeError(f"{folder}: {error}") from error
        resource.clear()
        resource.update(patched)


def _image(value: Any, one: Any) -> int:
    """Renames an image in all lists of containers, as Kustomize does in any kind."""
    if isinstance(value, list):
        return sum(_image(item, one) for item in value)
    if not isinstance(value, dict):
        return 0
    count = 0
    for field, inner in value.items():
        if field in ("containers", "initContainers"):
            for container in inner:
                name, _, tag = container["image"].partition(":")
                if name == one["name"]:
                    count += 1
                    tag = one.get("newTag", tag)
                    container["image"] = f"{one.get('newName', name)}:{tag}"
        count += _image(inner, one)
    return count


def _only(value: Any, known: set[str], where: Path) -> None:
    unknown = set(value) - known
    if unknown:
        raise KustomizeError(f"{where}: unknown {', '.join(sorted(unknown))}")
