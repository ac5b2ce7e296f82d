"""`DistillConfig`: every setting of `jobs.distill`, frozen and validated before anything starts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from jobs.training.flags import Command
from jobs.training.settings import CLUSTER, TrainingConfig, one_or_many
from lingua.config import CompressionConfig
from lingua.errors import ConfigError

TEACHERS = ("compressor", "endpoint")
FROM_ROWS = ("pairs", "labels", "answers")
Form = Literal["text", "pairs", "labels", "answers"]
Targets = Literal["rank", "kept", "scores"]
QUESTION_FREE: dict[str, Any] = {"method": "selective", "unit": "word"}
"""How a causal compressor labels if nothing else is asked: the surprisal of whole words in one pass."""
_FUNCTION = re.compile(r"[\w.]+:\w+")


class DistillConfig(TrainingConfig):
    """All settings of a distillation. Unknown or invalid settings raise ConfigError, naming the setting."""

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
    batch_size: int = Field(10, ge=1, description="chunks per step, over all workers")
    learning_rate: float = Field(1e-4, gt=0, description="peak, for a small encoder (paper, large: 1e-5)")
    weight_decay: float = Field(0.01, ge=0, description="of matrices")
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the rows kept for measuring")
    seed: int = Field(0, ge=0, description="of order, dropout and the new head")
    trust_remote_code: bool = Field(False, description="run Python code that the encoder brings with it")

    @classmethod
    def load(cls, argv: Sequence[str]) -> DistillConfig:
        """Flags over the file of ``--config`` over defaults. ConfigError; help exits."""
        return cls(**COMMAND.gather(argv))

    @field_validator("teacher_setting", mode="before")
    @classmethod
    def _one_setting(cls, value: object) -> object:
        return one_or_many(value)

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
        "cluster": CLUSTER,
    },
    settings=DistillConfig,
)
