"""The report: every number with its device, model, data and versions, as JSON and as Markdown."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from jobs.benchmarking.changed import changed_share
from jobs.benchmarking.contenders import Ours
from jobs.benchmarking.measure import Rounds, hardware_shares
from jobs.benchmarking.settings import Settings

PACKAGES = ("lingua-batch", "torch", "transformers", "tokenizers", "numpy")
_PLACES = ("peer_python", "peer_path", "output")
"""Settings that say where, not what: no part of the command that measures the same again."""


def make_report(settings: Settings, ours: Ours, mixes: Sequence[Rounds], peer: dict[str, str]) -> dict[str, Any]:
    """Everything as one JSON object. `peer`: its versions, or ``{"missing": why}``."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": _command(settings),
        "device": facts(ours.subject.device),
        "model": _model(ours),
        "settings": {"method": settings.method, "rate": settings.rate, "batch_tokens": ours.scorer.batch_tokens},
        "versions": versions(),
        "peer": peer,
        "mixes": [_mix(rounds, ours) for rounds in mixes],
    }


def facts(device: torch.device) -> dict[str, Any]:
    """Name of the device, and what of it is used."""
    if device.type == "cuda":
        return {"type": "cuda", "name": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return {"type": device.type, "name": _processor(), "threads": torch.get_num_threads()}


def versions() -> dict[str, str]:
    """Python and the packages that the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "checkout"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _command(settings: Settings) -> str:
    """A command line that measures the same again."""
    flags = {key: value for key, value in asdict(settings).items() if value is not None}
    mixes = [f"--mix {mix['name']}" + (f":{mix['tokens']}" if mix["tokens"] else "") for mix in flags.pop("mixes")]
    also = [f"--also {name}" for name in flags.pop("also")] + [f"--only {','.join(flags.pop('only'))}"]
    ours = [f"--{key.replace('_', '-')} {value}" for key, value in flags.items() if key not in _PLACES]
    return " ".join(["python -m jobs.benchmark", *([] if settings.data else mixes), *also, *ours])


def _model(ours: Ours) -> dict[str, Any]:
    model = ours.subject.model
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "name": ours.subject.name,
        "parameters": parameters,
        "dtype": str(model.dtype).removeprefix("torch."),
        "runs": getattr(ours.scorer, "packing", "as an encoder"),
    }


def _mix(rounds: Rounds, ours: Ours) -> dict[str, Any]:
    contenders = {name: _contender(rounds, name) | _changed(rounds, ours.name, name) for name in rounds.runs}
    return {
        "name": rounds.mix.name,
        "prompts": len(rounds.mix.prompts),
        "tokens": sum(rounds.tokens),
        "tokens_per_prompt": spread(rounds.tokens),
        "digest": rounds.mix.digest,
        "contenders": contenders,
        "failed": rounds.failed,
        "times_as_fast": _times_as_fast(rounds, ours.name, rounds.speeds),
        "times_as_fast_by_cpu_time": _times_as_fast(rounds, ours.name, rounds.cpu_speeds),
        "hardware": _hardware(rounds, ours),
    }


def _contender(rounds: Rounds, name: str) -> dict[str, Any]:
    runs = rounds.runs[name]
    seconds = sum(run.seconds for run in runs)
    stages = {stage: sum(run.stages[stage] for run in runs) / seconds for stage in runs[0].stages}
    return {
        "prompts": runs[0].prompts,
        "rejected": runs[0].rejected,
        "tokens_per_second": spread(rounds.speeds(name)),
        "tokens_per_cpu_second": spread(rounds.cpu_speeds(name)),
        "kept_share": runs[0].kept_share,
        "model_tokens_per_token": runs[0].model_tokens / rounds.origin(runs[0]),
        "time_share": stages,
        "peak_gigabytes": max(run.peak_bytes for run in runs) / 1e9,
    }


def _changed(rounds: Rounds, ours: str, name: str) -> dict[str, float]:
    """Our other ways of computing: share of the text on which they decide otherwise than we."""
    if name == ours or ours not in rounds.runs or not rounds.runs[name][0].kept:
        return {}
    kept = (rounds.runs[ours][0].kept, rounds.runs[name][0].kept)
    return {"changed_decisions": changed_share(rounds.mix.prompts, *kept)}


def _times_as_fast(rounds: Rounds, ours: str, speeds: Callable[[str], list[float]]) -> dict[str, dict[str, float]]:
    """Our speed over everyone else's, round by round."""
    others = [name for name in rounds.runs if name != ours and ours in rounds.runs]
    ratios = {name: zip(speeds(ours), speeds(name), strict=False) for name in others}
    return {name: spread([fast / slow for fast, slow in pairs]) for name, pairs in ratios.items()}


def _hardware(rounds: Rounds, ours: Ours) -> dict[str, Any]:
    if ours.name not in rounds.runs:
        return {}
    host = [1 - run.stages["model"] / run.seconds for run in rounds.runs[ours.name]]
    idle = {
        "idle_share": spread(host if rounds.busy is None else [1 - rounds.busy]),
        "idle_means": "time outside the model" if rounds.busy is None else "time without a kernel on the device",
    }
    if not rounds.roofs:
        return idle
    shares = {name: spread(values) for name, values in hardware_shares(rounds, ours).items()}
    return (
        idle
        | shares
        | {
            "plain_forward_tokens_per_second": spread(rounds.plain),
            "matrix_product_gflops": spread([roof.operations / 1e9 for roof in rounds.roofs]),
            "copy_gigabytes_per_second": spread([roof.bytes / 1e9 for roof in rounds.roofs]),
        }
    )


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest; empty for nothing."""
    if not values:
        return {}
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
