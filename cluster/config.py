"""`JobConfig`: every setting of a job, frozen and validated before anything starts.

Keys are flat: the job's own and those of `CompressionConfig`, which are assembled into `compression`. The same keys are
flags (``--shard-size``), keys of a YAML file (``shard_size:``) and environment variables (``LINGUA_SHARD_SIZE``), which
`settings` reads. Unknown keys are ConfigErrors wherever they stand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic.fields import FieldInfo

from cluster.command import Command
from cluster.input.columns import KINDS, PARTS, ROLES, Mapped
from cluster.placement import Placement, Share, parse_share
from cluster.storage.credentials import MASK, require_no_credentials
from cluster.storage.local import in_the_way
from cluster.storage.storage import LOCAL, absolute, protocol_of, require_conditional
from lingua.config import ALGORITHM_VERSION, FORMER, READERS, CompressionConfig
from lingua.config import default_of as compression_default
from lingua.config import fields as compression_fields
from lingua.errors import UnreadError
from lingua.methods import METHODS
from lingua.shared import Many

LEAST_BYTES, MOST_BYTES = 2**10, 2**50
UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def parse_size(value: object) -> object:
    """Bytes from ``"32MiB"`` and the like; numbers pass."""
    if not isinstance(value, str):
        return value
    if (match := _SIZE.fullmatch(value)) is None or match[2].lower() not in UNITS:
        raise ValueError("write bytes as a number, or with KiB, MiB, GiB (KB, MB, GB)")
    if (size := float(match[1]) * UNITS[match[2].lower()]) > MOST_BYTES:
        raise ValueError("is more than any shard could hold")
    if size < LEAST_BYTES:
        raise ValueError("counts bytes and no rows; write at least 1KiB, such as 32MiB")
    return int(size)


def parse_ceiling(value: object) -> object:
    """A number of rows (int), or a share of them (float up to 1) from ``"1%"``."""
    if isinstance(value := parse_share(value), float) and value > 1:
        raise ValueError("a share is at most 100%; write a whole number for rows")
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    if not str(value).strip().isdigit():
        raise ValueError("write a number of rows like 100, or a share of them like '1%'")
    return int(str(value))


Size = Annotated[int, BeforeValidator(parse_size)]
Ceiling = Annotated[int | float | None, BeforeValidator(parse_ceiling)]


def parse_output(value: str) -> str:
    """Where an output may be committed, as an absolute path or URL. ConfigError for any other place."""
    require_conditional(require_no_credentials("output", value))
    if protocol_of(value) in LOCAL and (fault := in_the_way(absolute(value))):
        raise ValueError(fault)
    return absolute(value)


Output = Annotated[str, Field(min_length=1), AfterValidator(parse_output)]
"""A directory to write."""
_NAMED = AfterValidator(partial(require_no_credentials, "reuse"))
Reused = Annotated[str, Field(min_length=1), _NAMED, AfterValidator(absolute)]
"""An earlier output, or a glob of such."""
Written = Annotated[str, Field(min_length=1), AfterValidator(partial(require_no_credentials, "output"))]
"""A directory that jobs.compress wrote."""


def parse_inputs(value: tuple[str, ...]) -> tuple[str, ...]:
    """Names of files. ConfigError where one is none, or a URL that says more."""
    if not all(url.strip() for url in value):
        raise ValueError("an empty name stands for no file; remove it")
    return tuple(require_no_credentials("input", url) for url in value)


Inputs = Annotated[tuple[str, ...], Field(min_length=1), Many, AfterValidator(parse_inputs)]
"""Files, globs or directories to read."""


def of_methods() -> dict[str, tuple[str, ...]]:
    """The settings that not all methods read, by those that do."""
    grouped: dict[str, tuple[str, ...]] = {}
    for name, readers in READERS.items():
        title = f"method{'s' if len(readers) > 1 else ''} {', '.join(readers)}"
        grouped[title] = (*grouped.get(title, ()), name)
    return grouped


_COMMON = (
    *("input", "output", "reuse", "resume", "text_column", "question_column", "messages_column"),
    *("method", "rate", "target_token", "target_tokenizer", "min_fidelity", "model", "workers", "dry_run"),
)
COLUMNS = tuple(f"{role}_column" for role in ROLES)
_GROUPS = {
    "what to read and write": ("input", "output", "reuse", "resume", "output_format", "output_prefix", "keep_order"),
    "columns": COLUMNS,
    "how much to keep": (
        *("method", "preset", "rate", "target_token", "target_tokenizer", "min_fidelity"),
        *("unit", "instruction_rate", "question_rate"),
    ),
    "what is never cut": ("force_tokens", "force_reserve_digit", "protect", "keep_markdown"),
    "rows of JSON and conversations": ("json_rules", "message_rates"),
    "model": ("model", "device", "dtype", "gpu_memory", "trust_remote_code"),
    "cluster": ("shard_size", "workers", "gpus_per_worker", "cpus_per_worker"),
    "watching": ("report_samples", "fidelity_sample", "log_format"),
    "failures": ("max_rejected", "shard_timeout", "lease_seconds", "storage_options", "dry_run"),
    **of_methods(),
}
_EXAMPLES = """\
examples:
  # halve the documents in the column 'text' of all Parquet files
  python -m jobs.compress --input 'corpus/*.parquet' --output compressed --rate 0.5

  # few-shot prompts to at most 1000 GPT-4 tokens each, questions untouched
  python -m jobs.compress --input prompts.jsonl --output s3://bucket/compressed --target-token 1000 \\
      --target-tokenizer cl100k_base --context-column demonstrations --question-column question

Each setting is a flag (--shard-size), a key of the file (shard_size) and a variable (LINGUA_SHARD_SIZE); flags override
the file, the file overrides the environment. The same command again does what is not done yet.
"""

_FORMER = {
    **FORMER,
    "webhook": "let what schedules the job send word; _stats.json holds what was sent",
    "report": "the report is always written; report_samples: 0 keeps no text for it",
    "price": "give it to python -m jobs.report",
    "max_attempts": "a shard is tried three times",
    "lease_wait": "a start waits for twice lease_seconds",
    "batch_tokens": "it is chosen for the device; gpu_memory bounds it",
    "address": "name the Ray cluster in the variable RAY_ADDRESS",
}


class JobConfig(Placement):
    """All settings of a job. Unknown or invalid settings raise ConfigError, naming the setting."""

    command: ClassVar[Command] = Command(
        "jobs.compress",
        "--input PATH --output DIRECTORY [any setting below]",
        "Shorten every prompt of a corpus, on Ray.",
        _EXAMPLES,
        common=_COMMON,
        groups=_GROUPS,
        alternatives=("rate", "target_token"),
        variables=None,
        former=_FORMER,
    )

    inputs: Inputs = Field(
        alias="input",
        description="file, glob or directory: .parquet, .jsonl, .jsonl.gz, .jsonl.zst; or dataset:ID:SPLIT of the hub",
    )
    output: Output = Field(description="directory to write: a path, s3://, gs:// or abfs://")

    reuse: Reused | None = Field(
        None,
        description="earlier output, made with the same settings: what did not change is taken over; of a glob like "
        "'snapshots/*' the last complete one by name",
    )

    resume: Literal["same", "grow", "retry-rejected"] = Field(
        "same",
        description="what an output that is there goes on with: what it was planned for; 'grow': also files that are "
        "new among the inputs; 'retry-rejected': once it is finished, its rejected rows",
    )

    text_column: str | None = Field(None, description="column with a document a row (default: 'text', if there is one)")
    instruction_column: str | None = Field(None, description="column with the instruction of a prompt")
    context_column: str | None = Field(None, description="column with the documents of a prompt: a string or a list")
    question_column: str | None = Field(None, description="column with the question of a prompt")
    messages_column: str | None = Field(
        None, description="column with a conversation a row: a list of messages, an object that holds one, or JSON text"
    )
    structured_column: str | None = Field(
        None, description="column with a text a row in which 'llmlingua' tags say how much to keep"
    )
    json_column: str | None = Field(
        None, description="column with JSON text, lists or structs, compressed as json_rules says"
    )
    id_column: str | None = Field(None, description="column that must not be null; it passes through like all others")
    output_format: Literal["parquet", "jsonl"] = Field("parquet", description="format of the parts")
    output_prefix: str = Field("", pattern=r"^\w*$", description="put before the names of the result columns")

    model: str = Field("smollm2-135m", min_length=1, description="hub id, directory, GGUF file, or 'smollm2-135m'")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="what a model computes in")
    trust_remote_code: bool = Field(False, description="run Python code that a model brings with it")

    shard_size: Size = Field(
        32 << 20,
        ge=LEAST_BYTES,
        le=MOST_BYTES,
        description="input bytes per shard, a number or like the default '32MiB'; a shard is committed whole",
    )

    max_rejected: Ceiling = Field(
        None,
        ge=0,
        description="rejected rows that end the run: 100, or '1%' (default: more than 10% and than 10 rows, or all)",
    )
    shard_timeout: float = Field(1800, gt=0, description="seconds without progress until a worker is replaced")
    lease_seconds: float = Field(
        60, gt=0, le=1_000_000, description="seconds after which a dead driver's hold on the output ends"
    )
    storage_options: dict[str, Any] = Field(
        default_factory=dict, repr=False, description='for fsspec, as JSON; flat, or by protocol: {"s3": {…}}'
    )
    dry_run: bool | Literal["estimate"] = Field(
        False, description="print the plan and stop; 'estimate': compress a sample here and tell time and memory, too"
    )

    report_samples: int = Field(
        2, ge=0, le=20, description="rows per shard kept with their text for the report; 0: none"
    )
    fidelity_sample: Share = Field(
        0.01,
        ge=0,
        le=1,
        description="share of the rows of which the model is asked how well the result predicts the original, such as "
        "0.01 or '1%'; 0: none",
    )
    log_format: Literal["text", "json"] = Field("text", description="'json': progress and logs as JSON Lines")

    compression: CompressionConfig = Field(default_factory=CompressionConfig)
    further_rates: tuple[float, ...] | None = None  # those behind the first, where several are given

    @classmethod
    def settings(cls) -> dict[str, FieldInfo]:
        own = {name: field for name, field in super().settings().items() if name not in ("compression", FURTHER)}
        return {**own, **compression_fields(), "rate": _RATES}

    @model_validator(mode="before")
    @classmethod
    def _assemble(cls, settings: dict[str, Any]) -> dict[str, Any]:
        known = compression_fields().keys() | FORMER
        flat = {key: value for key, value in settings.items() if key in known}
        own = {key: value for key, value in settings.items() if key not in flat}
        if isinstance(rates := flat.get("rate"), (list, tuple)) and rates:
            if len({CompressionConfig(rate=one).rate for one in rates}) < len(rates):
                raise ValueError("rate: one of them is given twice; give each once")
            flat["rate"], *further = rates
            if further:
                own[FURTHER], flat["keep_order"] = further, True
        if not flat:
            return own
        base = own.get("compression")
        chosen = base.given() if isinstance(base, CompressionConfig) else dict(base or {})
        return {**own, "compression": CompressionConfig(**{**chosen, **flat})}

    @model_validator(mode="after")
    def _one_shape(self) -> JobConfig:
        alone, parts = ([f"{role}_column" for role in roles] for roles in (("text", *KINDS), PARTS))
        first, *others = [name for name in (*alone, *parts) if getattr(self, name)] or [""]
        if first in alone and others:
            raise ValueError(f"{first} excludes {' and '.join(others)}; a row is one thing: give one of them")
        if self.reuse == self.output:
            raise ValueError("reuse names the output itself; name an older one, or leave it out to go on with this one")
        return self

    @model_validator(mode="after")
    def _given_is_read(self) -> JobConfig:
        given = self.compression.given()
        columns = ("question_column", *(f"{kind}_column" for kind in KINDS))
        if self.compression.keep_order and (named := next(filter(lambda name: getattr(self, name), columns), None)):
            raise ValueError(f"keep_order serves questions that are not known yet, and {named} is given; leave one out")
        if unread := [name for name, column in OF_COLUMNS.items() if name in given and not getattr(self, column)]:
            why = "is read only with {}: name one, or leave it out"
            raise UnreadError({name: why.format(OF_COLUMNS[name]) for name in unread})
        return self

    @property
    def mapped(self) -> Mapped:
        return Mapped(**{role: getattr(self, f"{role}_column") for role in ROLES})

    def identity_settings(self) -> dict[str, Any]:
        """What decides the content of an output, as JSON values: never a credential, never how many machines work.

        What is at its default is left out, so that a setting that a later version adds changes nothing until it is
        given. The model's name decides nothing: its digest does.
        """
        ignored = {"model", *(name for name, column in OF_COLUMNS.items() if not getattr(self, column))}
        ignored |= set() if METHODS[self.compression.method].needs in ("causal", "encoder") else {"dtype"}
        own = self.model_dump(mode="json", include=set(OUTPUT_SETTINGS))
        chosen = {name: value for name, value in own.items() if value != type(self).model_fields[name].default}
        settings = {ALGORITHM_KEY: ALGORITHM_VERSION, **chosen, **self.compression.without_defaults()}
        return {name: value for name, value in settings.items() if name not in ignored}

    def shown_settings(self) -> dict[str, Any]:
        """All settings by their flat keys, for plans, statistics and people; storage options masked."""
        own = self.model_dump(mode="json", exclude={"compression", "inputs"})
        options = MASK if self.storage_options else {}
        return {"input": list(self.inputs), **own, **self.compression.flat(), "storage_options": options}


def default_of(name: str, settings: Mapping[str, Any]) -> Any:
    """What a setting is where `settings` do not give it; None for a name that is not known."""
    field = JobConfig.model_fields.get(name)
    return compression_default(name, str(settings.get("method"))) if field is None else field.default


OF_COLUMNS = {"json_rules": "json_column", "message_rates": "messages_column"}
"""Settings of a compression that only rows of some columns read."""
FURTHER = "further_rates"
_TOLD = "share of tokens to keep, e.g. 0.5 (default); each further one adds columns, if keep_order is possible"
_RATES = FieldInfo(annotation=float | tuple[float, ...], default=None, gt=0, le=1, description=_TOLD)
ALGORITHM_KEY = "algorithm"
"""Among the settings that an output is known by: `ALGORITHM_VERSION`, which says how its results came about."""
_SHAPING = ("output_format", "output_prefix", "shard_size", "model", "dtype", "trust_remote_code")
OUTPUT_SETTINGS = (*COLUMNS, FURTHER, *_SHAPING)
"""The job's own settings that decide the content of an output, beside those of its compression."""
