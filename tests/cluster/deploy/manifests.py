"""What the tests of the deployment files share: reading them and finding pods in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "cluster" / "deploy"


def load(name: str) -> dict[str, Any]:
    """One deployment file that is YAML."""
    content = yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def files(*suffixes: str) -> list[Path]:
    """All deployment files with one of these suffixes, or all."""
    found = (path for path in DEPLOY.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(path for path in found if not suffixes or path.suffix in suffixes)


def walk(value: Any) -> Iterator[Any]:
    """A value and everything inside it."""
    yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from walk(child)


def pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The specs of all pods in a manifest of Kubernetes or KubeRay."""
    return [value for value in walk(manifest) if isinstance(value, dict) and "containers" in value]


def containers(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """All containers in a manifest."""
    return [value for value in walk(manifest) if isinstance(value, dict) and "image" in value]


def pinned(requirement: str) -> str:
    """The version of a package in constraints.txt."""
    found = re.search(rf"^{re.escape(requirement)}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]
