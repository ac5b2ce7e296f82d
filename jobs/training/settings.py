"""The settings of `jobs.align` and `jobs.distill`, frozen and validated before anything starts."""

from __future__ import annotations

import os
import re
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from cluster.command import Command
from cluster.config import Inputs, Output
from cluster.input.inputs import HUB_SCHEME
from cluster.placement import GpuShare
from cluster.settings import Settings
from cluster.storage.storage import absolute
from lingua.config import CompressionConfig
from lingua.errors import ConfigError
from lingua.shared import Strings

CLUSTER = ("workers", "gpus_per_worker", "cpus_per_worker", "max_failures", "lease_seconds")
NOT_DECISIVE = ("inputs", "output", *CLUSTER, "checkpoint_every", "storage_options")
"""Settings that another start on the same output may change; inputs are compared by what is in them."""

USAGE = "--input PATH --output DIRECTORY [any setting below]"
_COMMON = ("input", "output", "epochs", "learning_rate", "workers", "gpus_per_worker")
_GROUPS = {
    "both trainings": ("input", "output", "endpoint", "endpoint_mode", "limit", "group", "seed"),
    "course of a training": ("epochs", "learning_rate", "checkpoint_every"),
    "cluster": (*CLUSTER, "storage_options"),
}
_ALIGNING = r"""examples:
  # rows that hold the target's text already
  python -m jobs.align --input 'alpaca/*.parquet' --input-column input --response-column output --output aligned

  # prompts only: a model in process answers them first, then the small model learns from the answers
  python -m jobs.align --input prompts.jsonl --instruction-column question --template 'Q: {instruction}\nA:' \
      --target gemma3-270m --response-tokens 64 --output aligned

every flag is also a key of the file (--held-out: held_out). The same command again continues where it was stopped. The
model is OUTPUT/model: python -m jobs.compress --method llmlingua --model OUTPUT/model …
"""
_DISTILLING = r"""examples:
  # an encoder that keeps what a causal model finds surprising, from any corpus with a column 'text'
  python -m jobs.distill --input 'corpus/*.parquet' --output encoder

  # as in the LLMLingua-2 paper: a strong model leaves words out, a multilingual encoder learns which
  python -m jobs.distill --input meetings.jsonl --teacher endpoint --endpoint https://api.example.com/v1 \
      --teacher-model big-model --model xlm-roberta-large --learning-rate 1e-5 --epochs 10 --output encoder

every flag is also a key of the file (--held-out: held_out). The same command again continues where it was stopped. The
model is OUTPUT/model: python -m jobs.compress --method llmlingua2 --model OUTPUT/model …
"""


class TrainingConfig(Settings):
    """What both jobs set: rows, output, the course of the training, the cluster. ConfigError names a wrong setting."""

    inputs: Inputs = Field(alias="input", description="file, glob or folder of rows: .parquet, .jsonl, .jsonl.gz, .zst")
    output: Output = Field(description="directory to write: a path, s3://, gs:// or abfs://")
    endpoint: str | None = Field(None, pattern="^https?://", description="OpenAI-compatible URL (key: OPENAI_API_KEY)")
    endpoint_mode: Literal["completion", "chat"] = Field("completion", description="how the endpoint is asked")
    limit: int | None = Field(None, ge=2, description="use this many rows only")
    group: int = Field(32, ge=1, description="rows that are labelled or answered, and committed, at once")

    epochs: int = Field(3, ge=1, description="how often each row is seen")
    learning_rate: float | None = Field(
        None, gt=0, description="its peak (default: 2e-5, LoRA 2e-4, encoders 1e-4; paper, large encoders: 1e-5)"
    )
    seed: int = Field(0, ge=0, description="seed of order, dropout, new weights and sampling")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints; the newest two are kept")

    workers: int = Field(1, ge=0, description="Ray workers; 0: in this process, without Ray")
    gpus_per_worker: GpuShare | None = Field(None, description="GPUs per worker (default: 1 if there are any)")
    cpus_per_worker: float = Field(1, gt=0, description="CPU cores per worker")
    max_failures: int = Field(3, ge=0, description="failures of workers that a run survives")
    lease_seconds: float = Field(60, gt=0, description="seconds after which a dead run no longer holds the output")
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False, description="for fsspec, as JSON")

    @field_validator("inputs")
    @classmethod
    def _absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(url if url.startswith(HUB_SCHEME) else absolute(url) for url in value)

    @field_validator("model", "target", "teacher_model", check_fields=False)
    @classmethod
    def _same_from_everywhere(cls, value: str | None) -> str | None:
        """Workers have working directories of their own."""
        path = os.path.expanduser(value or "")
        return os.path.abspath(path) if os.path.exists(path) else value

    @property
    def peak(self) -> float:
        return self.learning_rate or 1e-4

    def identity(self) -> dict[str, Any]:
        """What decides the result, as JSON values: never a credential, never how many machines work."""
        return self.model_dump(mode="json", exclude=set(NOT_DECISIVE))


class AlignConfig(TrainingConfig):
    command = Command(
        "jobs.align",
        USAGE,
        "Train a small model to see text as a target model does (LLMLingua, section 4.3), on Ray.",
        _ALIGNING,
        common=(*_COMMON, "response_column", "instruction_column", "target", "model", "method"),
        groups=_GROUPS,
    )

    instruction_column: str = Field("instruction", min_length=1, description="column with the instruction or prompt")
    input_column: str | None = Field(None, description="column with what the instruction is about, put after it")
    response_column: str = Field(
        "response", min_length=1, description="column with the target model's text; not read where --target is given"
    )
    template: str = Field("{instruction}\n", description="text before a response, for both models; {instruction} in it")
    held_out: int = Field(64, ge=1, description="rows kept for measuring, with all that share their instruction")

    target: str | None = Field(None, min_length=1, description="who responds: as --model, or a name at the endpoint")
    response_tokens: int = Field(256, ge=1, description="tokens of a response at most, in the target's tokenizer")
    temperature: float = Field(
        1.0, ge=0, description="of responses made in process: 1 draws from the target's own distribution, 0 is greedy"
    )
    stop: Strings = Field((), description="strings that end a response")

    model: str = Field("smollm2-135m", min_length=1, description="small model to train: hub id, directory, GGUF, alias")
    method: Literal["full", "lora"] = Field("full", description="train all weights, or LoRA, merged in at the end")
    lora_rank: int = Field(16, ge=1, description="rank of LoRA's matrices; its scale (alpha) is twice the rank")
    sequence_tokens: int = Field(1024, ge=16, description="tokens of a packed sequence; longer rows are cut there")
    step_sequences: int = Field(8, ge=1, description="packed sequences of a step, over all workers")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="type of products; weights and optimizer stay float32. auto: bfloat16 where that is fast"
    )

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
        return self.learning_rate or (2e-4 if self.method == "lora" else 2e-5)


TEACHERS = ("compressor", "endpoint")
FROM_ROWS = ("pairs", "labels", "answers")
QUESTION_FREE: dict[str, Any] = {"method": "selective", "unit": "word"}
"""How a compressor labels unless told otherwise: the surprisal of whole words in one pass."""
_FUNCTION = re.compile(r"[\w.]+:\w+")


class DistillConfig(TrainingConfig):
    command = Command(
        "jobs.distill",
        USAGE,
        "Train an encoder to tell which words to keep (LLMLingua-2) from a teacher's labels, on Ray.",
        _DISTILLING,
        common=(*_COMMON, "text_column", "teacher", "teacher_model", "model", "rate"),
        groups=_GROUPS,
    )

    text_column: str = Field("text", min_length=1, description="column with the text")

    teacher: str = Field(
        "compressor",
        description="compressor, endpoint, your own module:function, or what the rows hold: pairs, labels or answers",
    )
    teacher_model: str = Field("smollm2-135m", min_length=1, description="a compressor, or a name at the endpoint")
    teacher_setting: Strings = Field((), description="of a compressor, KEY=VALUE (default: method=selective unit=word)")
    endpoint_mode: Literal["completion", "chat"] = Field("chat", description="how the endpoint is asked")
    chunk_tokens: int = Field(510, ge=16, description="tokens of a chunk at most; it ends where a sentence does")
    drop_variation: float = Field(0.05, ge=0, lt=1, description="compressions: share of highest variation rate to drop")
    drop_gap: float = Field(0.1, ge=0, lt=1, description="compressions: share of widest alignment gap to drop")
    targets: Literal["rank", "kept", "scores"] | None = Field(
        None, description="what is learnt: the score's rank, kept (0 or 1), or scores in [0, 1] (default: by teacher)"
    )
    rate: float = Field(0.35, gt=0, lt=1, description="share of the words that count as kept")

    model: str = Field("all-minilm-l6-v2", min_length=1, description="encoder to begin with: hub id, directory, alias")
    batch_size: int = Field(10, ge=1, description="chunks of a step, over all workers")
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the rows kept for measuring")

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
    def learnt(self) -> str:
        """What is learnt of the scores: a compressor's have no scale, so their rank; others are taken as they are."""
        return self.targets or ("rank" if self.teacher == "compressor" else "scores")

    @property
    def compression(self) -> CompressionConfig:
        """The compressor's settings. ConfigError when they are none."""
        pairs = [one.partition("=") for one in self.teacher_setting]
        if (wrong := next(("".join(pair) for pair in pairs if not pair[1]), None)) is not None:
            raise ConfigError(f"teacher_setting = {wrong!r}: write KEY=VALUE, such as aggregate=mean")
        return CompressionConfig(**{**QUESTION_FREE, **{key: yaml.safe_load(value) for key, _, value in pairs}})
