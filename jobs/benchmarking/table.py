"""The report's JSON as Markdown for people."""

from __future__ import annotations

from typing import Any

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

_RATIOS = ("times_as_fast", "times_as_fast_by_cpu_time")


def markdown(report: dict[str, Any]) -> str:
    """The whole report."""
    lines = ["# Benchmark", "", *_heading(report)]
    for mix in report["mixes"]:
        lines += ["", *mix_lines(mix, report["peer"], mix["name"])]
    return "\n".join(lines) + "\n"


def _heading(report: dict[str, Any]) -> list[str]:
    device, model, settings = report["device"], report["model"], report["settings"]
    where = ", ".join(f"{key} {value}" for key, value in device.items() if key not in ("type", "name"))
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    missing = report["peer"].get("missing")
    peer = f"not measured: {missing}" if missing else ", ".join(f"{k} {v}" for k, v in report["peer"].items())
    return [
        f"- date: {report['date']}",
        f"- device: {device['name']} ({where})",
        f"- model: {model['name']}, {model['parameters'] / 1e6:.1f}M parameters, {model['dtype']}",
        f"- the model runs {model['runs']}",
        f"- method: {settings['method']}, rate {settings['rate']}, {settings['batch_tokens']} tokens per batch",
        f"- versions: {versions}",
        f"- peer: {peer}",
        f"- command: `{report['command']}`",
    ]


def mix_lines(mix: dict[str, Any], peer: dict[str, str], name: str) -> list[str]:
    """The table of one mix under its `name`."""
    size = f"{mix['prompts']} prompts, {mix['tokens']:,} tokens (median {mix['tokens_per_prompt']['median']:,.0f})"
    lines = [f"## {name}: {size}, digest {mix['digest']}", "", *_table_head()]
    lines += [_row(name, found, [mix[key].get(name) for key in _RATIOS]) for name, found in mix["contenders"].items()]
    lines += [_line(name, f"failed: {why}") for name, why in mix["failed"].items()]
    if "missing" in peer and "llmlingua" not in mix["failed"]:
        lines.append(_line("llmlingua", "not measured"))
    return [*lines, "", *_hardware(mix["hardware"])]


def _table_head() -> list[str]:
    return [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]


def _line(name: str, text: str) -> str:
    return f"| {name} | {text.replace('|', '/')} |{' |' * (len(_COLUMNS) - 2)}"


def _row(name: str, found: dict[str, Any], ratios: list[dict[str, float] | None]) -> str:
    share = found["time_share"]
    stages = " / ".join(f"{share[stage]:.0%}" if stage in share else "–" for stage in ("model", "tokenize", "host"))
    cells = [
        name,
        _spread(found["tokens_per_second"], ",.0f"),
        *(_spread(ratio, ".2f") if ratio else "1" for ratio in ratios),
        f"{found['model_tokens_per_token']:.2f}",
        f"{found['kept_share']:.1%}",
        f"{found['changed_decisions']:.2%}" if "changed_decisions" in found else "",
        stages,
        f"{found['peak_gigabytes']:.2f}",
        f"{found['prompts']}" + (f" ({found['rejected']} rejected)" if found["rejected"] else ""),
    ]
    return f"| {' | '.join(cells)} |"


def _hardware(found: dict[str, Any]) -> list[str]:
    if not found:
        return ["Our engine failed: nothing to set against the hardware."]
    idle = f"- idle: {_spread(found['idle_share'], '.1%')} ({found['idle_means']})"
    if "of_roofline" not in found:
        return [idle]
    plain, shares = found["plain_forward_tokens_per_second"], _shares(found)
    product, copy = found["matrix_product_gflops"], found["copy_gigabytes_per_second"]
    return [
        f"- plain forward: {_spread(plain, ',.0f')} tokens/s; our model tokens: {shares['of_plain_forward']} of it",
        f"- hardware: matrix product {_spread(product, ',.0f')} GFLOP/s, copy {_spread(copy, ',.1f')} GB/s; "
        f"we reach {shares['of_roofline']} of the roofline, {shares['of_matrix_product']} of the matrix product",
        idle,
    ]


def _shares(found: dict[str, Any]) -> dict[str, str]:
    return {name: _spread(found[name], ".0%") for name in ("of_plain_forward", "of_roofline", "of_matrix_product")}


def _spread(values: dict[str, float], form: str) -> str:
    """``median (min to max)``, or just the number where they are one."""
    median, least, most = (format(values[key], form) for key in ("median", "min", "max"))
    return median if least == most else f"{median} ({least} to {most})"
