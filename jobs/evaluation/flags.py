"""Settings of an evaluation from flags, a YAML file and a preset, merged: flags over file over preset over defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster.flags import FlagParser, file_settings, help_of, kind_of
from jobs.evaluation.presets import PRESETS, preset
from jobs.evaluation.settings import EvalConfig
from lingua.errors import ConfigError

EXAMPLES = """\
examples:
  # our defaults and four baselines at 35% of the context's tokens, read by gemma
  python -m jobs.evaluate --data squad=squad.jsonl --target gemma3-270m --output eval --limit 50

  # against the public library, at exactly the size that it reaches
  python -m jobs.evaluate --data nq=nq.jsonl --target gemma3-270m --output eval-peer --match-peer \\
      --candidate peer --candidate 'sentence: unit=sentence aggregate=mean' --candidate lead --rate 0.5 --rate 0.25

  # no model is asked: what is left of answers, evidence, numbers and names
  python -m jobs.evaluate --data nq=nq.jsonl --output kept --rate 0.35

candidates are written 'NAME: [BASE] key=value …' with any setting of jobs.compress; these names need nothing more:
  default, paper (its recipe), aware (question-aware), selective (Selective-Context); without a model: random (words),
  truncate, lead (the beginning of each string), rarity (rare words); peer and peer-aware (the public llmlingua, in its
  own environment: python -m jobs.benchmarking.setup_peer). The whole context ('full') and none ('nothing') are always
  there. Question and instruction are never cut: a rate is the share of the context's tokens that may stay.

targets are models in the process (an alias, a directory, a hub id; 'NAME: model=… device=cuda dtype=bfloat16') or
endpoints ('NAME: url=http://localhost:8000/v1 model=… mode=chat', the key from OPENAI_API_KEY).

a preset (--preset) is the settings of a table of the papers; bring its data:
  python -m jobs.evaluate --preset gsm8k-1shot --data gsm8k=rows.jsonl --output out --target 'gpt: url=… model=…'

in a YAML file the same: data: {squad: squad.jsonl}, candidates: {sentence: {unit: sentence}, peer: }, targets: […],
rate: [0.5, 0.25], …; flags count over the file. The same command again goes on with what is missing.
"""
GROUPS = {
    "what is read and written": ("data", "output", "limit", "offset", "seed", "strings"),
    "what is compared": ("candidates", "rate", "tokens", "match_peer", "model", "device", "dtype", "tokenizer"),
    "who is asked": ("targets", "ask", "max_tokens", "stop"),
    "cluster": ("chunk", "workers", "gpus_per_worker", "cpus_per_worker", "address", "batch_tokens"),
    "failures": ("max_attempts", "timeout", "storage_options"),
    "the rest": ("resamples", "peer_python", "peer_path"),
}
SINGULAR = {"candidates": "candidate", "targets": "target"}
REPEATED = {"data", "candidates", "rate", "tokens", "targets", "ask", "stop"}
SIZES = {"rate", "tokens"}


def gather(argv: Sequence[str]) -> dict[str, Any]:
    """The merged settings. ConfigError for unreadable files and unknown flags; ``--help`` prints and exits."""
    flags = _parser().parse(argv)
    file = flags.pop("config")
    content = file_settings(file, {*EvalConfig.model_fields, "preset"}) if file else {}
    named = flags.pop("preset", None) or content.pop("preset", None)
    merged = preset(str(named)).settings() if named else {}
    for layer in (content, flags):
        if layer.keys() & SIZES:  # either replaces both of a lower layer
            merged = {key: value for key, value in merged.items() if key not in SIZES}
        merged |= layer
    missing = [name for name in ("data", "output") if name not in merged]
    if missing:
        raise ConfigError(f"missing setting: {', '.join(missing)}; give --{missing[0]}, or --help for all settings")
    return merged


def _parser() -> FlagParser:
    """Flags for all settings; those that are not given are absent from the result."""
    parser = FlagParser(
        "jobs.evaluate",
        "--data NAME=FILE --output DIRECTORY [any setting below]",
        "Measure what compressed prompts are still good for, on Ray; restarted, it does what is missing.",
        EXAMPLES,
    )
    parser.add_argument("--preset", metavar="NAME", help=f"settings of a paper's table: {', '.join(PRESETS)}")
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            _add(group, name)
    return parser


def _add(group: Any, name: str) -> None:
    field = EvalConfig.model_fields[name]
    flag = f"--{SINGULAR.get(name, name).replace('_', '-')}"
    repeated = {"action": "append", "metavar": "VALUE"} if name in REPEATED else {}
    text = help_of(field) + ("; repeatable" if repeated else "")
    group.add_argument(flag, dest=name, help=text, **(repeated or kind_of(field)))
