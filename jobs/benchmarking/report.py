"""The report: every number with its device, model, data and versions, as JSON and as Markdown."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from jobs.benchmarking.contenders import Ours
from jobs.benchmarking.hardware import PACKAGES, facts
from jobs.benchmarking.rounds import Found, Rounds
from jobs.peer_main import versions


def make_report(ours: Ours, mixes: Sequence[Rounds], peer: dict[str, str], command: str) -> Found:
    """Everything as one JSON object. `peer`: its versions, or ``{"missing": why}``."""
    config, model = ours.config, ours.subject.model
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "device": facts(ours.subject.device),
        "model": {
            "name": ours.subject.name,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "dtype": str(model.dtype).removeprefix("torch."),
            "runs": getattr(ours.scorer, "packing", "as an encoder"),
        },
        "settings": {"method": config.method, "rate": config.rate, "batch_tokens": ours.scorer.batch_tokens},
        "versions": versions(PACKAGES),
        "peer": peer,
        "mixes": [rounds.found() for rounds in mixes],
    }


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
    plain, product = (
        _spread(found[name], ",.0f") for name in ("plain_forward_tokens_per_second", "matrix_product_gflops")
    )
    copy = _spread(found["copy_gigabytes_per_second"], ",.1f")
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
