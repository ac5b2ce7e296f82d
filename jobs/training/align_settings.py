"""`AlignConfig`: every setting of `jobs.align`, frozen and validated before anything starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from jobs.training.flags import Command
from jobs.training.settings import CLUSTER, TrainingConfig, one_or_many


class AlignConfig(TrainingConfig):
    """All settings of an alignment. Unknown or invalid settings raise ConfigError, naming the setting."""

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
    learning_rate: float | None = Field(None, gt=0, description="peak (default: 2e-5, LoRA 2e-4)")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="of the learning rate after warm-up"
    )
    weight_decay: float = Field(0.0, ge=0, description="of matrices")
    sequence_tokens: int = Field(1024, ge=16, description="tokens per packed sequence; longer rows are cut there")
    step_sequences: int = Field(8, ge=1, description="packed sequences per step, over all workers")
    seed: int = Field(0, ge=0, description="of draws, order and dropout")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="what is multiplied; weights and optimizer stay float32. auto: bfloat16 if fast"
    )
    gradient_checkpointing: bool = Field(False, description="save memory, compute a third more")
    trust_remote_code: bool = Field(False, description="run Python code that a model brings with it")

    @classmethod
    def load(cls, argv: Sequence[str]) -> AlignConfig:
        """Flags over the file of ``--config`` over defaults. ConfigError; help exits."""
        return cls(**COMMAND.gather(argv))

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: object) -> object:
        return one_or_many(value)

    @field_validator("model", "target")
    @classmethod
    def _same_from_everywhere(cls, value: str | None) -> str | None:
        """Workers have working directories of their own."""
        path = Path(value or "")
        return os.path.abspath(path.expanduser()) if value and path.expanduser().exists() else value

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
model is OUTPUT/model: python -m jobs.compress --method llmlingua --model OUTPUT/model …; what it does to quality,
jobs.evaluate measures.
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
        "cluster": CLUSTER,
    },
    settings=AlignConfig,
)
