"""`AlignConfig`: every setting of `jobs.align`, frozen and validated before anything starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cluster.secrets import require_no_credentials
from cluster.storage import absolute, require_conditional
from jobs.training.flags import Command
from lingua.config import explain
from lingua.errors import ConfigError


class AlignConfig(BaseModel):
    """All settings of an alignment. Unknown or invalid settings raise ConfigError, naming the setting."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    inputs: tuple[str, ...] = Field(
        alias="input", min_length=1, description="file, glob or directory of rows: .parquet, .jsonl, .jsonl.gz, .zst"
    )
    output: str = Field(min_length=1, description="directory to write: a path, s3://, gs:// or abfs://")
    instruction_column: str = Field("instruction", min_length=1, description="column with the instruction or prompt")
    input_column: str | None = Field(None, description="column with what the instruction is about, put after it")
    response_column: str = Field(
        "response", min_length=1, description="column with the target model's text; not read where --target is given"
    )
    template: str = Field("{instruction}\n", description="text before a response, for both models; {instruction} in it")
    limit: int | None = Field(None, ge=2, description="use this many rows only, drawn by the seed")
    held_out: int = Field(64, ge=1, description="rows kept for measuring, with all that share their instruction")

    target: str | None = Field(
        None, min_length=1, description="model that writes the responses: as --model, or its name at the endpoint"
    )
    endpoint: str | None = Field(
        None, pattern="^https?://", description="base URL of an OpenAI-compatible endpoint (key: OPENAI_API_KEY)"
    )
    endpoint_mode: Literal["completion", "chat"] = Field("completion", description="how the endpoint is asked")
    response_tokens: int = Field(256, ge=1, description="target's tokens per response, at most")
    temperature: float = Field(
        1.0, ge=0, description="of responses made in process: 1 draws from the target's own distribution, 0 is greedy"
    )
    stop: tuple[str, ...] = Field((), description="strings that end a response")
    chunk_rows: int = Field(32, ge=1, description="responses committed at once")

    model: str = Field("smollm2-135m", min_length=1, description="small model to train: hub id, directory, GGUF, alias")
    method: Literal["full", "lora"] = Field("full", description="train all weights, or LoRA merged in at the end")
    lora_rank: int = Field(16, ge=1, description="rank of LoRA's matrices")
    lora_alpha: float = Field(32, gt=0, description="LoRA's scale, divided by the rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout before LoRA's matrices")
    epochs: int = Field(3, ge=1, description="times that each row is seen")
    max_steps: int | None = Field(None, ge=1, description="end after this many steps, whatever the epochs")
    learning_rate: float | None = Field(None, gt=0, description="peak (default: 2e-5, LoRA 2e-4)")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="of the learning rate after warm-up"
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(0.0, ge=0, description="of matrices")
    clip: float = Field(1.0, gt=0, description="norm that gradients are clipped to")
    sequence_tokens: int = Field(1024, ge=16, description="tokens per packed sequence; longer rows are cut there")
    step_sequences: int = Field(8, ge=1, description="packed sequences per step, over all workers")
    seed: int = Field(0, ge=0, description="of draws, order and dropout")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="what is multiplied; weights and optimizer stay float32. auto: bfloat16 if fast"
    )
    gradient_checkpointing: bool = Field(False, description="save memory, compute a third more")
    trust_remote_code: bool = Field(False, description="run Python code that a model brings with it")

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
    def load(cls, argv: Sequence[str]) -> AlignConfig:
        """Flags over the file of ``--config`` over defaults. ConfigError; help exits."""
        return cls(**COMMAND.gather(argv))

    @field_validator("inputs", "stop", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("inputs")
    @classmethod
    def _no_credentials(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            require_no_credentials("input", url)
        return tuple(absolute(url) for url in value)

    @field_validator("model", "target")
    @classmethod
    def _same_from_everywhere(cls, value: str | None) -> str | None:
        """Workers have working directories of their own."""
        path = Path(value or "")
        return os.path.abspath(path.expanduser()) if value and path.expanduser().exists() else value

    @field_validator("output")
    @classmethod
    def _can_hold_commits(cls, value: str) -> str:
        require_no_credentials("output", value)
        require_conditional(value)
        return absolute(value)

    @field_validator("template")
    @classmethod
    def _holds_the_instruction(cls, value: str) -> str:
        if value.count("{instruction}") != 1:
            raise ValueError("write {instruction} once where the instruction stands, e.g. 'Q: {instruction}\\nA:'")
        return value

    @model_validator(mode="after")
    def _target_of_the_endpoint(self) -> AlignConfig:
        if self.endpoint is not None and self.target is None:
            raise ValueError("endpoint needs --target, the model's name there")
        return self

    @property
    def peak(self) -> float:
        """The highest learning rate."""
        return self.learning_rate or (2e-4 if self.method == "lora" else 2e-5)

    def identity(self) -> dict[str, Any]:
        """What decides the result, as JSON values: never a credential, never how many machines work."""
        return self.model_dump(mode="json", exclude=set(NOT_DECISIVE))

    def plain(self) -> dict[str, Any]:
        """All settings, as they are handed to workers."""
        return self.model_dump(mode="python")


NOT_DECISIVE = (
    *("inputs", "output", "workers", "gpus_per_worker", "cpus_per_worker", "address", "checkpoint_every"),
    *("keep_checkpoints", "max_failures", "lease_seconds", "storage_options", "gradient_checkpointing"),
)
"""Settings that another start on the same output may change; inputs are compared by content."""

EXAMPLES = r"""examples:
  # rows that hold the target's text already
  python -m jobs.align --input 'alpaca/*.parquet' --input-column input --response-column output --output aligned

  # prompts only: a model in process answers them first, then the small model learns from the answers
  python -m jobs.align --input prompts.jsonl --instruction-column question --template 'Q: {instruction}\nA:' \
      --target gemma3-270m --response-tokens 64 --output aligned

  # the same through an endpoint; LoRA on four GPUs; settings from a file
  python -m jobs.align --config align.yaml --endpoint https://api.example.com/v1 --target big-model \
      --endpoint-mode chat --method lora --workers 4

every flag is also a key of the file (--held-out: held_out). The same command again goes on where it was stopped. The
model is OUTPUT/model: python -m jobs.compress --model OUTPUT/model …; what it does to quality, jobs.evaluate measures.
"""
COMMAND = Command(
    name="jobs.align",
    usage="--input PATH --output DIRECTORY [any setting below]",
    description="Train a small model to see text as a target model does (LLMLingua, section 4.3), on Ray.",
    examples=EXAMPLES,
    groups={
        "what to read and write": (
            *("input", "output", "instruction_column", "input_column", "response_column", "template", "limit"),
            *("held_out", "storage_options"),
        ),
        "responses": (
            *("target", "endpoint", "endpoint_mode", "response_tokens", "temperature", "stop", "chunk_rows"),
        ),
        "training": (
            *("model", "method", "lora_rank", "lora_alpha", "lora_dropout", "epochs", "max_steps", "learning_rate"),
            *("schedule", "warmup", "weight_decay", "clip", "sequence_tokens", "step_sequences", "seed", "dtype"),
            *("gradient_checkpointing", "trust_remote_code"),
        ),
        "cluster": (
            *("workers", "gpus_per_worker", "cpus_per_worker", "address", "checkpoint_every", "keep_checkpoints"),
            *("max_failures", "lease_seconds"),
        ),
    },
    settings=AlignConfig,
)


def _explain(error: ValidationError) -> str:
    """`lingua.config.explain`, except that storage options are never repeated."""
    if any("storage_options" in fault["loc"] for fault in error.errors(include_url=False)):
        return "storage_options must be a JSON object of options for fsspec (its value is not shown here)"
    return explain(error).replace("inputs =", "input =")
