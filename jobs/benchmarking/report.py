"""The report: every number with its device, model, data and versions, as JSON and as Markdown."""

from __future__ import annotations

import datetime
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.benchmarking.contenders import KeptSpans, Ours, Rounds
from jobs.benchmarking.hardware import Size, attainable, facts, versions
from lingua.prompt import Prompt, Span

Found = dict[str, Any]


def make_report(ours: Ours, mixes: Sequence[Rounds], peer: dict[str, str], command: str) -> Found:
    """Everything as one JSON object. `peer`: its versions, or ``{"missing": why}``."""
    config = ours.config
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "device": facts(ours.subject.device),
        "model": _model(ours),
        "settings": {"method": config.method, "rate": config.rate, "batch_tokens": ours.scorer.batch_tokens},
        "versions": versions(),
        "peer": peer,
        "mixes": [_mix(rounds, ours) for rounds in mixes],
    }


def _model(ours: Ours) -> Found:
    model = ours.subject.model
    return {
        "name": ours.subject.name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "runs": getattr(ours.scorer, "packing", "as an encoder"),
    }


def _mix(rounds: Rounds, ours: Ours) -> Found:
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
        "hardware": _hardware(rounds, ours) if ours.name in rounds.runs else {},
    }


def _contender(rounds: Rounds, name: str) -> Found:
    runs = rounds.runs[name]
    seconds = sum(run.seconds for run in runs)
    return {
        "prompts": runs[0].prompts,
        "rejected": runs[0].rejected,
        "tokens_per_second": spread(rounds.speeds(name)),
        "tokens_per_cpu_second": spread(rounds.cpu_speeds(name)),
        "kept_share": runs[0].kept_share,
        "model_tokens_per_token": runs[0].model_tokens / rounds.origin(runs[0]),
        "time_share": {stage: sum(run.stages[stage] for run in runs) / seconds for stage in runs[0].stages},
        "peak_gigabytes": max(run.peak_bytes for run in runs) / 1e9,
    }


def _times_as_fast(rounds: Rounds, ours: str, speeds: Callable[[str], list[float]]) -> dict[str, dict[str, float]]:
    """Our speed over everyone else's, round by round."""
    others = [name for name in rounds.runs if name != ours and ours in rounds.runs]
    ratios = {name: zip(speeds(ours), speeds(name), strict=False) for name in others}
    return {name: spread([fast / slow for fast, slow in pairs]) for name, pairs in ratios.items()}


def _hardware(rounds: Rounds, ours: Ours) -> Found:
    host = [1 - run.stages["model"] / run.seconds for run in rounds.runs[ours.name]]
    idle = {
        "idle_share": spread(host if rounds.busy is None else [1 - rounds.busy]),
        "idle_means": "time outside the model" if rounds.busy is None else "time without a kernel on the device",
    }
    if not rounds.roofs:
        return idle
    size = Size.of(ours.subject.model)
    measured = list(zip(rounds.runs[ours.name], rounds.plain, rounds.roofs, strict=False))  # the last may lack some
    shares = {
        "of_plain_forward": [run.model_tokens / run.seconds / plain for run, plain, _ in measured],
        "of_roofline": [attainable(run.batches, size, roof) / run.seconds for run, _, roof in measured],
        "of_matrix_product": [
            sum(map(size.operations, run.batches)) / run.seconds / roof.operations for run, _, roof in measured
        ],
        "plain_forward_tokens_per_second": rounds.plain,
        "matrix_product_gflops": [roof.operations / 1e9 for roof in rounds.roofs],
        "copy_gigabytes_per_second": [roof.bytes / 1e9 for roof in rounds.roofs],
    }
    return idle | {name: spread(values) for name, values in shares.items()}


def _changed(rounds: Rounds, ours: str, name: str) -> dict[str, float]:
    """Our other ways of computing: share of the text on which they decide otherwise than we."""
    if name == ours or ours not in rounds.runs or not rounds.runs[name][0].kept:
        return {}
    kept = (rounds.runs[ours][0].kept, rounds.runs[name][0].kept)
    return {"changed_decisions": changed_share(rounds.mix.prompts, *kept)}


def changed_share(prompts: Sequence[Prompt], ours: Sequence[KeptSpans], theirs: Sequence[KeptSpans]) -> float:
    """Share of the context's characters that one keeps and the other does not, over prompts that both compressed."""
    changed = total = 0
    for prompt, one, other in zip(prompts, ours, theirs, strict=False):
        for text, kept, also in zip(prompt.context, one, other, strict=False):
            changed += int((_mask(text, kept) != _mask(text, also)).sum())
            total += len(text)
    return changed / max(1, total)


def _mask(text: str, spans: Sequence[Span]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(len(text), bool)
    for begin, end in spans:
        mask[begin:end] = True
    return mask


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest; empty for nothing."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)} if values else {}


def write(folder: Path, name: str, report: Found, page: Callable[[Found], str]) -> None:
    """Replace NAME.json and NAME.md in the folder, each whole at any moment."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in ((f"{name}.json", json.dumps(report, indent=2) + "\n"), (f"{name}.md", page(report))):
        (folder / f"{file}.part").write_text(text, encoding="utf-8")
        (folder / f"{file}.part").replace(folder / file)


# ---- as Markdown

_COLUMNS = (
    "who",
    "original tokens/s",
    "we are × as fast",
    "× by CPU time",
    "model tokens per token",
    "kept",
    "decided otherwise",
    "time: model / tokenize / host",
    "peak GB",
    "prompts",
)


def markdown(report: Found) -> str:
    lines = ["# Benchmark", "", *_heading(report)]
    for mix in report["mixes"]:
        lines += ["", *mix_lines(mix, report["peer"], mix["name"])]
    return "\n".join(lines) + "\n"


def _heading(report: Found) -> list[str]:
    device, model, settings = report["device"], report["model"], report["settings"]
    where = listed({key: value for key, value in device.items() if key not in ("type", "name")})
    missing = report["peer"].get("missing")
    return [
        f"- date: {report['date']}",
        f"- device: {device['name']} ({where})",
        f"- model: {model['name']}, {model['parameters'] / 1e6:.1f}M parameters, {model['dtype']}",
        f"- the model runs {model['runs']}",
        f"- method: {settings['method']}, rate {settings['rate']}, {settings['batch_tokens']} tokens per batch",
        f"- versions: {listed(report['versions'])}",
        f"- peer: {f'not measured: {missing}' if missing else listed(report['peer'])}",
        f"- command: `{report['command']}`",
    ]


def listed(values: Found) -> str:
    """``name value, name value``."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def mix_lines(mix: Found, peer: dict[str, str], name: str) -> list[str]:
    """The table of one mix under its `name`."""
    size = f"{mix['prompts']} prompts, {mix['tokens']:,} tokens (median {mix['tokens_per_prompt']['median']:,.0f})"
    lines = [f"## {name}: {size}, digest {mix['digest']}", "", _line(*_COLUMNS), f"|{'---|' * len(_COLUMNS)}"]
    for who, found in mix["contenders"].items():
        ratios = [mix[key].get(who) for key in ("times_as_fast", "times_as_fast_by_cpu_time")]
        lines.append(_line(who, *_cells(found, ratios)))
    others = {who: f"failed: {why.replace('|', '/')}" for who, why in mix["failed"].items()}
    if "missing" in peer:
        others = {"llmlingua": "not measured"} | others
    lines += [_line(who, why, *[""] * (len(_COLUMNS) - 2)) for who, why in others.items()]
    return [*lines, "", *_beside_hardware(mix["hardware"])]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(found: Found, ratios: Sequence[dict[str, float] | None]) -> list[str]:
    share = found["time_share"]
    return [
        _spread(found["tokens_per_second"], ",.0f"),
        *(_spread(ratio, ".2f") if ratio else "1" for ratio in ratios),
        f"{found['model_tokens_per_token']:.2f}",
        f"{found['kept_share']:.1%}",
        f"{found['changed_decisions']:.2%}" if "changed_decisions" in found else "",
        " / ".join(f"{share[stage]:.0%}" if stage in share else "–" for stage in ("model", "tokenize", "host")),
        f"{found['peak_gigabytes']:.2f}",
        f"{found['prompts']}" + (f" ({found['rejected']} rejected)" if found["rejected"] else ""),
    ]


def _beside_hardware(found: Found) -> list[str]:
    if not found:
        return ["Our engine failed: nothing to set against the hardware."]
    idle = f"- idle: {_spread(found['idle_share'], '.1%')} ({found['idle_means']})"
    if "of_roofline" not in found:
        return [idle]
    plain, product, copy = (
        _spread(found[name], form)
        for name, form in (
            ("plain_forward_tokens_per_second", ",.0f"),
            ("matrix_product_gflops", ",.0f"),
            ("copy_gigabytes_per_second", ",.1f"),
        )
    )
    share = {name: _spread(found[f"of_{name}"], ".0%") for name in ("plain_forward", "roofline", "matrix_product")}
    return [
        f"- plain forward: {plain} tokens/s; our model tokens: {share['plain_forward']} of it",
        f"- hardware: matrix product {product} GFLOP/s, copy {copy} GB/s; "
        f"we reach {share['roofline']} of the roofline, {share['matrix_product']} of the matrix product",
        idle,
    ]


def _spread(values: dict[str, float], form: str) -> str:
    """``median (min to max)``, or just the number where they are one."""
    median, least, most = (format(values[key], form) for key in ("median", "min", "max"))
    return median if least == most else f"{median} ({least} to {most})"
