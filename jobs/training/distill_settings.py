"""`DistillConfig`: every setting of `jobs.distill`, frozen and validated before anything starts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cluster.secrets import require_no_credentials
from cluster.storage import absolute, require_conditional
from jobs.training.flags import Command
from lingua.config import CompressionConfig, explain
from lingua.errors import ConfigError

TEACHERS = ("compressor", "endpoint")
FROM_ROWS = ("pairs", "labels", "answers")
Form = Literal["text", "pairs", "labels", "answers"]
Targets = Literal["rank", "kept", "scores"]
QUESTION_FREE: dict[str, Any] = {"method": "selective", "unit": "word"}
"""How a causal compressor labels if nothing else is asked: the surprisal of whole words in one pass."""
_FUNCTION = re.compile(r"[\w.]+:\w+")


class DistillConfig(BaseModel):
    """All settings of a distillation. Unknown or invalid settings raise ConfigError, naming the setting."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    inputs: tuple[str, ...] = Field(
        alias="input", min_length=1, description="file, glob or directory of rows: .parquet, .jsonl, .jsonl.gz, .zst"
    )
    output: str = Field(min_length=1, description="directory to write: a path, s3://, gs:// or abfs://")
    text_column: str = Field("text", min_length=1, description="column with the text")
    compressed_column: str = Field("compressed", min_length=1, description="--teacher pairs: column with what was kept")
    answers_column: str = Field(
        "answers", min_length=1, description="--teacher answers: column with what was asked of the text and found in it"
    )
    limit: int | None = Field(None, ge=2, description="use the first rows only")
    language: str = Field("en", min_length=2, description="language code for splitting sentences")

    teacher: str = Field(
        "compressor",
        description="compressor, endpoint, your own module:function, or what the rows hold: pairs, labels or answers",
    )
    teacher_model: str = Field(
        "smollm2-135m", min_length=1, description="the compressor's model, or the model's name at the endpoint"
    )
    teacher_setting: tuple[str, ...] = Field(
        (), description="setting of the compressor as KEY=VALUE (default: method=selective, unit=word)"
    )
    endpoint: str | None = Field(
        None, pattern="^https?://", description="base URL of an OpenAI-compatible endpoint (key: OPENAI_API_KEY)"
    )
    endpoint_mode: Literal["completion", "chat"] = Field("chat", description="how the endpoint is asked")
    chunk_tokens: int = Field(510, ge=16, description="tokens of a chunk at most; it ends where a sentence does")
    group: int = Field(64, ge=1, description="chunks labelled and committed at once")
    drop_variation: float = Field(0.05, ge=0, lt=1, description="aligned: share to drop of highest variation rate")
    drop_gap: float = Field(0.1, ge=0, lt=1, description="aligned: share to drop of widest alignment gap")
    targets: Targets | None = Field(
        None, description="what is learnt: the score's rank, kept (0 or 1), or scores in [0, 1] (default: by teacher)"
    )
    rate: float = Field(0.35, gt=0, lt=1, description="share of the words that count as kept")

    model: str = Field("all-minilm-l6-v2", min_length=1, description="encoder to begin with: hub id, directory, alias")
    epochs: int = Field(3, ge=1, description="times that each chunk is seen (paper: 10)")
    max_steps: int | None = Field(None, ge=1, description="end after this many steps, whatever the epochs")
    batch_size: int = Field(10, ge=1, description="chunks per step, over all workers")
    learning_rate: float = Field(1e-4, gt=0, description="peak, for a small encoder (paper, large: 1e-5)")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0, description="of matrices")
    clip: float = Field(1.0, gt=0, description="norm that gradients are clipped to")
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the rows kept for measuring")
    seed: int = Field(0, ge=0, description="of order, dropout and the new head")
    trust_remote_code: bool = Field(False, description="run Python code that the encoder brings with it")

    workers: int = Field(1, ge=0, description="Ray workers; 0: in this process, without Ray")
    gpus_per_worker: float | None = Field(None, ge=0, description="GPUs per worker (default: 1 if any)")
    cpus_per_worker: float = Field(1, gt=0, description="CPU cores per worker")
    address: str | None = Field(None, description="Ray cluster (default: the one submitted to, or a local one)")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints kept")
    max_failures: int = Field(3, ge=0, description="deaths of workers that a run survives, going on from a checkpoint")
    lease_seconds: float = Field(60, gt=0, description="seconds after which a dead run's hold on the output ends")
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False, description="for fsspec, as JSON")

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from None

    @classmethod
    def load(cls, argv: Sequence[str]) -> DistillConfig:
        """Flags over the file of ``--config`` over defaults. ConfigError; help exits."""
        return cls(**COMMAND.gather(argv))

    @field_validator("inputs", "teacher_setting", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("inputs")
    @classmethod
    def _no_credentials(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            require_no_credentials("input", url)
        return tuple(value if "dataset:" in value else absolute(value) for value in value)

    @field_validator("output")
    @classmethod
    def _can_hold_commits(cls, value: str) -> str:
        require_no_credentials("output", value)
        require_conditional(value)
        return absolute(value)

    @field_validator("teacher")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in (*TEACHERS, *FROM_ROWS) and not _FUNCTION.fullmatch(value):
            raise ValueError(f"write {', '.join((*TEACHERS, *FROM_ROWS))}, or module:function")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> DistillConfig:
        if (self.teacher == "endpoint") != (self.endpoint is not None):
            raise ValueError("--teacher endpoint and --endpoint URL belong together; give both or none")
        _ = self.compression
        return self

    @property
    def form(self) -> Form:
        """What a row of the input is."""
        return self.teacher if self.teacher in FROM_ROWS else "text"  # type: ignore[return-value]

    @property
    def learnt(self) -> Targets:
        """What is learnt of the scores: a causal model's have no scale, so their rank; others are as they are."""
        return self.targets or ("rank" if self.teacher == "compressor" else "scores")

    @property
    def compression(self) -> CompressionConfig:
        """The compressor's settings. ConfigError when they are none."""
        pairs = [one.partition("=") for one in self.teacher_setting]
        wrong = next(("".join(pair) for pair in pairs if not pair[1]), None)
        if wrong is not None:
            raise ConfigError(f"teacher_setting = {wrong!r}: write KEY=VALUE, such as aggregate=mean")
        return CompressionConfig(**{**QUESTION_FREE, **{key: yaml.safe_load(value) for key, _, value in pairs}})

    def identity(self) -> dict[str, Any]:
        """What decides the result, as JSON values: never a credential, never how many machines work."""
        return self.model_dump(mode="json", exclude=set(NOT_DECISIVE))

    def plain(self) -> dict[str, Any]:
        """All settings, as they are handed to workers."""
        return self.model_dump(mode="python")


NOT_DECISIVE = (
    *("inputs", "output", "workers", "gpus_per_worker", "cpus_per_worker", "address", "checkpoint_every"),
    *("keep_checkpoints", "max_failures", "lease_seconds", "storage_options"),
)
"""Settings that another start on the same output may change; inputs are compared by their files."""

EXAMPLES = r"""examples:
  # an encoder that keeps what a causal model finds surprising, from any corpus with a column 'text'
  python -m jobs.distill --input 'corpus/*.parquet' --output encoder

  # as in the LLMLingua-2 paper: a strong model leaves words out, a multilingual encoder learns which
  python -m jobs.distill --input meetings.jsonl --teacher endpoint --endpoint https://api.example.com/v1 \
      --teacher-model big-model --model xlm-roberta-large --learning-rate 1e-5 --epochs 10 --output encoder

  # labels made before, or by somebody else; four workers
  python -m jobs.distill --input encoder/labels --teacher labels --targets rank --workers 4 --output encoder-2

every flag is also a key of the file (--held-out: held_out). The same command again goes on where it was stopped. The
model is OUTPUT/model: python -m jobs.compress --method llmlingua2 --model OUTPUT/model …
"""
COMMAND = Command(
    name="jobs.distill",
    usage="--input PATH --output DIRECTORY [any setting below]",
    description="Train an encoder to tell which words to keep (LLMLingua-2) from a teacher's labels, on Ray.",
    examples=EXAMPLES,
    groups={
        "what to read and write": (
            *("input", "output", "text_column", "compressed_column", "answers_column"),
            *("limit", "language", "storage_options"),
        ),
        "labels": (
            *("teacher", "teacher_model", "teacher_setting", "endpoint", "endpoint_mode", "chunk_tokens", "group"),
            *("drop_variation", "drop_gap", "targets", "rate"),
        ),
        "training": (
            *("model", "epochs", "max_steps", "batch_size", "learning_rate", "warmup", "weight_decay", "clip"),
            *("held_out", "seed", "trust_remote_code"),
        ),
        "cluster": (
            *("workers", "gpus_per_worker", "cpus_per_worker", "address", "checkpoint_every", "keep_checkpoints"),
            *("max_failures", "lease_seconds"),
        ),
    },
    settings=DistillConfig,
)


def _explain(error: ValidationError) -> str:
    """`lingua.config.explain`, except that storage options are never repeated."""
    if any("storage_options" in fault["loc"] for fault in error.errors(include_url=False)):
        return "storage_options must be a JSON object of options for fsspec (its value is not shown here)"
    return explain(error).replace("inputs =", "input =")
