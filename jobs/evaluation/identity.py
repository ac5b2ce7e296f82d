"""What decides the content of an evaluation: its settings, its rows, and the models by the digests of their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.plan import Identity
from jobs.evaluation.files import rows_digest
from jobs.evaluation.rows import EvalRow
from jobs.evaluation.settings import EvalConfig
from jobs.evaluation.specs import Candidate, TargetSpec
from jobs.packages import require_packages
from lingua.errors import ConfigError
from lingua.models.source import models_digest, resolve

PLAIN = ("dtype", "tokenizer", "match_peer", "ask", "chunk")
GENERATION = ("max_tokens", "stop")


def identify(config: EvalConfig, sets: Mapping[str, Sequence[EvalRow]]) -> Identity:
    """The identity of an evaluation. ModelError when one of its models cannot be found."""
    settings: dict[str, Any] = {name: config.model_dump(mode="json", include={name})[name] for name in PLAIN}
    settings["sizes"] = list(config.sizes)
    if "generate" in config.ask or any(target.remote for target in config.targets):
        settings |= config.model_dump(mode="json", include=set(GENERATION))
    settings |= {f"set {name}": f"{len(rows)} rows, {rows_digest(rows)}" for name, rows in sets.items()}
    settings |= {f"candidate {one.name}": _candidate(one, config) for one in config.candidates}
    settings |= {f"target {one.name}": _target(one, config) for one in config.targets}
    return Identity(settings, config.model, resolve(config.model).digest)


def _candidate(candidate: Candidate, config: EvalConfig) -> dict[str, Any]:
    known = candidate.identity()
    if candidate.kind == "config":
        known["digest"] = models_digest(resolve(candidate.model or config.model), candidate.config())
    return known


def _target(target: TargetSpec, config: EvalConfig) -> dict[str, Any]:
    """An endpoint is known by where it is: what runs behind it cannot be seen."""
    if not target.remote:
        own = {name: target.settings[name] for name in ("model", "dtype") if name in target.settings}
        return {**own, "digest": resolve(str(target.settings["model"])).digest}
    _require_usable(target, config)
    return {name: target.settings[name] for name in ("url", "model", "mode") if name in target.settings}


def _require_usable(target: TargetSpec, config: EvalConfig) -> None:
    """ConfigError for an endpoint that could not be asked, before anything starts."""
    require_packages("eval", "openai")
    from jobs.evaluation.endpoint import EndpointSettings

    settings = EndpointSettings(**target.settings)
    if (settings.max_requests or settings.max_tokens) and config.workers is None:
        raise ConfigError(f"target {target.name!r}: its budget is parted among the workers; say how many: --workers 1")
