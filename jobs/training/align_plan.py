"""`_align.json`: what an output of `jobs.align` was begun with, so that nothing else ever goes on with it."""

from __future__ import annotations

import json
from typing import Any

from cluster.errors import PlanConflict
from cluster.storage import Storage
from jobs.training.align_settings import AlignConfig
from jobs.training.examples import digest, read_examples, split
from jobs.training.responses import target_digest
from lingua.models.source import resolve

NAME = "_align.json"
SHOWN = 80


def open_plan(config: AlignConfig, storage: Storage) -> None:
    """Read and check all rows, find the models, and begin the output or go on with it.

    Raises ConfigError for rows and ModelError for models that cannot be used, PlanConflict with the difference when the
    output was begun with something else.
    """
    examples = read_examples(config, storage)
    split(examples, config.held_out)
    wanted = {
        **config.identity(),
        "rows": digest(examples),
        "model_digest": resolve(config.model).digest,
        "target_digest": target_digest(config),
    }
    url = f"{config.output}/{NAME}"
    if not storage.create(url, json.dumps(wanted, indent=1, sort_keys=True).encode()):
        _require_same(config.output, json.loads(storage.read(url)), wanted)


def _require_same(output: str, begun: dict[str, Any], wanted: dict[str, Any]) -> None:
    keys = sorted(key for key in begun.keys() | wanted.keys() if begun.get(key) != wanted.get(key))
    if keys:
        changes = "; ".join(f"{key} was {_shown(begun, key)}, is {_shown(wanted, key)}" for key in keys)
        raise PlanConflict(f"{output} was begun otherwise: {changes}; restore that, or give another --output")


def _shown(values: dict[str, Any], key: str) -> str:
    return repr(values.get(key))[:SHOWN]
