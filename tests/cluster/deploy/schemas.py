"""KubeRay's own schemas, without loopholes: what the API server would refuse or drop is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

KUBERAY = {"RayJob": "rayjobs", "RayCronJob": "raycronjobs", "RayCluster": "rayclusters"}
TEXT, NUMBER = {"type": "string"}, {"type": "integer", "minimum": 0}


def schema_of(kind: str, shared_data: Path) -> dict[str, Any]:
    file = shared_data / "kuberay" / f"{KUBERAY[kind]}.v1.schema.json"
    if not file.is_file():
        pytest.skip("KubeRay's schemas (../shared/data/kuberay) are not here")
    schema = closed(json.loads(file.read_text()))
    assert isinstance(schema, dict)
    schema["properties"]["metadata"] = {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": TEXT,
            "namespace": TEXT,
            "labels": {"type": "object"},
            "annotations": {"type": "object"},
        },
    }
    return schema


def errors(schema: dict[str, Any], manifest: Any) -> list[str]:
    found = Draft202012Validator(schema).iter_errors(manifest)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in found]


def closed(schema: Any) -> Any:
    """The schema with unknown fields forbidden, as the API server treats them under strict validation."""
    if isinstance(schema, list):
        return [closed(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    inside = {key: closed(value) for key, value in schema.items()}
    open_ended = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        inside["additionalProperties"] = False
    return inside
