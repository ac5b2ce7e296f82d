"""What an output was begun with: a start with other settings, models or inputs is refused, never continued silently."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from cluster.errors import PlanConflict
from cluster.inputs import expand_inputs
from cluster.storage import Storage
from jobs.training.distill_settings import DistillConfig
from jobs.training.labels_read import require_rows
from jobs.training.labels_teachers import find_function, teacher_digest
from lingua.models.source import resolve

NAME = "_plan.json"


def open_plan(config: DistillConfig, storage: Storage) -> None:
    """Look at all rows and models, and begin the output or go on with it.

    Raises ConfigError for rows and ModelError for models that cannot be used, PlanConflict with the difference when the
    output was begun with something else.
    """
    require_rows(config, storage)
    url, plan = f"{config.output}/{NAME}", make_plan(config, storage)
    if storage.create(url, json.dumps(plan, indent=1, sort_keys=True).encode()):
        return
    different = list(_differences(json.loads(storage.read(url)), plan))
    if different:
        raise PlanConflict(
            f"{config.output} was begun with {'; '.join(different)}; begin a new output, or delete this one. To train "
            f"again on its labels: --teacher labels --input {config.output}/labels --targets {config.learnt}"
        )


def make_plan(config: DistillConfig, storage: Storage) -> dict[str, Any]:
    """All that decides the result."""
    if ":" in config.teacher:
        find_function(config.teacher)
    return {
        "settings": config.identity(),
        "inputs": {source.path: asdict(source) for source in expand_inputs(config.inputs, storage)},
        "models": {"student": resolve(config.model).digest, "teacher": teacher_digest(config)},
    }


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for part in now:
        old, new = before.get(part, {}), now[part]
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                yield f"{part} {key}: {_shown(old.get(key))}, now {_shown(new.get(key))}"


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)[:120]
