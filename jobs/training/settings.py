"""`TrainingConfig`: what the settings of `jobs.align` and `jobs.distill` share."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from cluster.hub import SCHEME
from cluster.secrets import require_no_credentials
from cluster.storage import absolute
from cluster.validated import Validated


class TrainingConfig(Validated):
    """Rows, where they go, the optimizer's steps and the cluster. Unknown or invalid settings raise ConfigError."""

    inputs: tuple[str, ...] = Field(
        alias="input", min_length=1, description="file, glob or directory of rows: .parquet, .jsonl, .jsonl.gz, .zst"
    )
    output: str = Field(min_length=1, description="directory to write: a path, s3://, gs:// or abfs://")
    endpoint: str | None = Field(
        None, pattern="^https?://", description="base URL of an OpenAI-compatible endpoint (key: OPENAI_API_KEY)"
    )
    endpoint_mode: Literal["completion", "chat"] = Field("completion", description="how the endpoint is asked")

    max_steps: int | None = Field(None, ge=1, description="end after this many steps, whatever the epochs")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    clip: float = Field(1.0, gt=0, description="norm that gradients are clipped to")

    workers: int = Field(1, ge=0, description="Ray workers; 0: in this process, without Ray")
    gpus_per_worker: float | None = Field(None, ge=0, description="GPUs per worker (default: 1 if any)")
    cpus_per_worker: float = Field(1, gt=0, description="CPU cores per worker")
    address: str | None = Field(None, description="Ray cluster (default: the one submitted to, or a local one)")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints kept")
    max_failures: int = Field(3, ge=0, description="deaths of workers that a run survives, going on from a checkpoint")
    lease_seconds: float = Field(60, gt=0, description="seconds after which a dead run's hold on the output ends")
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False, description="for fsspec, as JSON")

    @field_validator("inputs", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return one_or_many(value)

    @field_validator("inputs")
    @classmethod
    def _no_credentials(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            require_no_credentials("input", url)
        return tuple(url if url.startswith(SCHEME) else absolute(url) for url in value)

    def identity(self) -> dict[str, Any]:
        """What decides the result, as JSON values: never a credential, never how many machines work."""
        return self.model_dump(mode="json", exclude=set(NOT_DECISIVE))

    def plain(self) -> dict[str, Any]:
        """All settings, as they are handed to workers."""
        return self.model_dump(mode="python")


CLUSTER = (
    *("workers", "gpus_per_worker", "cpus_per_worker", "address", "checkpoint_every", "keep_checkpoints"),
    *("max_failures", "lease_seconds"),
)
NOT_DECISIVE = ("inputs", "output", *CLUSTER, "storage_options", "gradient_checkpointing")
"""Settings that another start on the same output may change; inputs are compared by what is in them."""


def one_or_many(value: object) -> object:
    """One string counts as a list of one."""
    return (value,) if isinstance(value, str) else value
