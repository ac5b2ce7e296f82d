"""What a job is about to do and what it ran with, in words and as JSON: the dry run's text, the versions in use."""

from __future__ import annotations

import json
import platform
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cluster.columns import ROLES
from cluster.config import JobConfig
from cluster.inputs import shown
from cluster.plan import Plan
from cluster.progress import counted
from cluster.shards import Source
from lingua.methods import METHODS

PACKAGES = ("lingua-batch", "torch", "transformers", "tokenizers", "ray", "pyarrow", "fsspec")
SHOWN_FILES = 10


def describe(config: JobConfig, plan: Plan, committed: Collection[str], reuse: str | None = None) -> str:
    """The plan for people: files, shards, rows if known, columns, what would be reused, settings."""
    done = sum(shard.name in committed for shard in plan.shards)
    lines = [
        f"output     {config.output}",
        f"shards     {len(plan.shards):,} of about {config.shard_size:,} bytes, {done:,} of them committed",
        f"rows       {_rows(plan)}",
        *([f"reuse      {reuse}"] if reuse else []),
        f"columns    {_columns(plan)}",
        f"files      {len(plan.sources):,} with {sum(source.size for source in plan.sources):,} bytes",
        *(f"           {_file(source)}" for source in plan.sources[:SHOWN_FILES]),
    ]
    if len(plan.sources) > SHOWN_FILES:
        lines.append(f"           … and {len(plan.sources) - SHOWN_FILES:,} more")
    lines += notices(plan)
    settings = config.shown_settings()
    return "\n".join([*lines, "settings", *(f"  {key}: {json.dumps(value)}" for key, value in settings.items())])


def notices(plan: Plan) -> list[str]:
    """What does not become of the inputs what one might expect."""
    told = (
        ("left out   {}", plan.about.get("left_out")),
        ("retyped    {}: Arrow has no such types; values pass, typed as what stores them", plan.about.get("stored_as")),
    )
    return [line.format(what) for line, what in told if what]


def facts(config: JobConfig, plan: Plan) -> dict[str, Any]:
    """What `_stats.json` says of how a run was made, beside its figures."""
    return {
        "settings": config.shown_settings(),
        "model": plan.identity.model,
        "model_digest": plan.identity.model_digest,
        "identity": plan.identity.digest(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def unsampled(method: str, share: float | None) -> str | None:
    """Why a run can have no fidelity sample; None where it can."""
    if not share:
        return "fidelity_sample is 0"
    known = METHODS.get(method)
    return None if known and known.needs == "causal" else f"method {method} has no causal model to ask"


def name_of(output: str) -> str:
    """What people call an output: the last name of its path."""
    return output.rstrip("/").rpartition("/")[2] or output


def _rows(plan: Plan) -> str:
    known = [shard.rows for shard in plan.shards if shard.rows is not None]
    unknown = len(plan.shards) - len(known)
    more = f", and those of {counted(unknown, 'file')}, counted as they are read" if unknown else ""
    return f"{sum(known):,}{more}"


def _columns(plan: Plan) -> str:
    mapped = plan.columns.mapped
    named = [f"{role} = {getattr(mapped, role)!r}" for role in ROLES if getattr(mapped, role) is not None]
    return ", ".join(named)


def _file(source: Source) -> str:
    packed = f", {source.compression}" if source.compression else ""
    return f"{shown(source.path)} ({source.size:,} bytes, {source.format}{packed})"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
