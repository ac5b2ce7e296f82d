"""Settings from flags, a YAML file and the environment, merged: flags over file over environment over defaults.

Flags are made from the fields of `JobConfig` and `CompressionConfig`, so none can be forgotten and ``--help`` is always
whole. Values are read as the field's type asks, by pydantic; YAML by its safe loader; nothing is evaluated. In the
environment and in flags a list or an object may be written as JSON; one string counts as a list of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic.fields import FieldInfo

from cluster.config import JobConfig
from cluster.flags import HELP, FlagParser, file_settings, help_of, is_listed, json_object, kind_of
from lingua.config import CompressionConfig
from lingua.errors import ConfigError
from lingua.explain import meant

PREFIX = "LINGUA_"
NO_SETTINGS = {"LINGUA_CACHE"}
"""Variables of ours that are read elsewhere: where converted models are kept."""
GROUPS = {
    "what to read and write": ("input", "output", "reuse", "output_format", "output_prefix"),
    "how much to keep": ("rate", "target_token", "target_tokenizer", "min_fidelity", "method", "preset"),
    "columns": (
        "text_column",
        "instruction_column",
        "context_column",
        "question_column",
        "messages_column",
        "structured_column",
        "json_column",
        "id_column",
    ),
    "model": ("model", "device", "dtype", "batch_tokens", "gpu_memory", "trust_remote_code"),
    "cluster": ("shard_size", "workers", "gpus_per_worker", "cpus_per_worker", "address"),
    "watching": ("report", "report_samples", "fidelity_sample", "price", "log_format", "webhook"),
    "failures": (
        "max_attempts",
        "max_rejected",
        "shard_timeout",
        "lease_seconds",
        "lease_wait",
        "storage_options",
        "dry_run",
    ),
}
EXAMPLES = """\
examples:
  # halve the documents in the column 'text' of all Parquet files
  python -m jobs.compress --input 'corpus/*.parquet' --output compressed --rate 0.5

  # few-shot prompts to at most 1000 GPT-4 tokens each, questions untouched
  python -m jobs.compress --input prompts.jsonl --output s3://bucket/compressed --target-token 1000 \\
      --target-tokenizer cl100k_base --context-column demonstrations --question-column question

  # the same corpus a week later: only what is new goes to the model
  python -m jobs.compress --input 'corpus/*.parquet' --output week-2 --reuse week-1 --rate 0.5

  # conversations, every older turn shorter than the one after it
  python -m jobs.compress --input chats.jsonl --output shorter --messages-column messages --rate 0.5 --older-turns 0.8

  # settings from a file, one of them overruled; look at the plan first
  python -m jobs.compress --config job.yaml --rate 0.3 --dry-run

every flag is also a key of the file (--shard-size: shard_size) and an environment variable (LINGUA_SHARD_SIZE);
flags count over the file, the file over the environment. The output can be completed by the same command again.
"""


def fields() -> dict[str, FieldInfo]:
    """All settings by their flat keys."""
    own = {field.alias or name: field for name, field in JobConfig.model_fields.items() if name != "compression"}
    return {**own, **CompressionConfig.model_fields}


def grouped() -> dict[str, tuple[str, ...]]:
    """All keys by the heading that they stand under."""
    named = {key for keys in GROUPS.values() for key in keys}
    return {**GROUPS, "compression": tuple(key for key in CompressionConfig.model_fields if key not in named)}


def gather(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """The merged settings, and what each is called where it was given (a flag, a variable, a file's key).

    ConfigError for unknown keys and unreadable files; ``--help`` prints and exits.
    """
    flags = build_parser().parse(argv)
    file = flags.pop("config")
    merged = from_environment(os.environ if environment is None else environment)
    origins = {key: f"{PREFIX}{key.upper()} (in the environment)" for key in merged}
    written = file_settings(file, fields()) if file else {}
    for layer, named in ((written, f"{{}} (in {file})"), (flags, "--{}")):
        if layer.keys() & {"rate", "target_token"}:  # either one overrules the other of a lower layer
            merged = {key: value for key, value in merged.items() if key not in ("rate", "target_token")}
        merged = {**merged, **layer}
        origins |= {key: named.format(key if layer is written else key.replace("_", "-")) for key in layer}
    missing = [key for key in ("input", "output") if key not in merged]
    if missing:
        flags_missing = " and ".join(f"--{key}" for key in missing)
        raise ConfigError(f"missing setting: {', '.join(missing)}; give {flags_missing}, or --help for all settings")
    return merged, origins


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Settings from variables that begin with `PREFIX`."""
    found = {key: value for key, value in environment.items() if key.startswith(PREFIX) and key not in NO_SETTINGS}
    known = {f"{PREFIX}{key.upper()}": key for key in fields()}
    if unknown := sorted(found.keys() - known.keys()):
        raise ConfigError(f"environment: unknown setting {unknown[0]};{meant(unknown[0], known)} {HELP}")
    return {known[name]: _from_text(value, fields()[known[name]], name) for name, value in found.items()}


def _from_text(value: str, field: FieldInfo, name: str) -> Any:
    if field.annotation == dict[str, Any]:
        return json_object(value, name, secret="STORAGE" in name)
    if not is_listed(field):
        return value
    try:
        return json.loads(value) if value.lstrip().startswith(("[", "{")) else value
    except (json.JSONDecodeError, RecursionError):
        return value


def build_parser() -> FlagParser:
    """Flags for all settings; those that are not given are absent from the result."""
    parser = FlagParser(
        "jobs.compress",
        "--input PATH --output DIRECTORY [any setting below]",
        "Compress the prompts of a corpus on Ray; restarted, it does what is not done yet.\n"
        "Needed are --input and --output; --rate says how much is kept. Everything else has a default.",
        EXAMPLES,
    )
    known = fields()
    for title, keys in grouped().items():
        group = parser.add_argument_group(title)
        for key in keys:
            group.add_argument(
                f"--{key.replace('_', '-')}",
                dest=key,
                help=help_of(known[key]),
                **kind_of(known[key], f"--{key.replace('_', '-')}"),
            )
    return parser
