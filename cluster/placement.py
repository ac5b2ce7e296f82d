"""`Placement`: on which devices a job's workers compute, and how much of each; for all jobs that hand out shards."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from cluster.settings import Settings

MOST_WORKERS = 100_000
SMALLEST_SHARE = 1e-4
"""Of a GPU; Ray counts in ten-thousandths."""
DEVICE = re.compile(r"auto|cpu|(cuda|mps|xpu|hpu|npu)(:\d+)?")
PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def parse_share(value: object) -> object:
    """A share from ``"1%"``; numbers pass."""
    share = PERCENT.fullmatch(value) if isinstance(value, str) else None
    return value if share is None else float(share[1]) / 100


def whole_or_a_part(value: float) -> float:
    """A worker's share of a GPU. ValueError for more than one, or for less than Ray can count."""
    if value > 1:
        raise ValueError("a worker computes on one GPU: must be 1, a share of one, or 0 for none")
    if 0 < value < SMALLEST_SHARE:
        raise ValueError(f"must be at least {SMALLEST_SHARE:g}, or 0 for none")
    return value


Share = Annotated[float, BeforeValidator(parse_share)]
GpuShare = Annotated[float, Field(ge=0), AfterValidator(whole_or_a_part)]


class Placement(Settings):
    """Settings of workers and of the devices that they compute on."""

    device: str = Field("auto", description="'auto', 'cpu', or a GPU: 'cuda', 'mps', …")
    gpu_memory: Share = Field(
        0.75,
        gt=0,
        le=1,
        description="share of a GPU's free memory that batches, keys and values take once the model is loaded; with a "
        "fraction of a GPU, of that fraction",
    )
    workers: int | None = Field(
        None, ge=1, le=MOST_WORKERS, description="workers (default: one per GPU, or what the cores allow)"
    )
    gpus_per_worker: GpuShare | None = Field(
        None, description="share of a GPU per worker, at most 1; 0: none (default: 1 if there is any)"
    )
    cpus_per_worker: float | None = Field(None, gt=0, description="CPU cores per worker (default: chosen)")

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, value: str) -> str:
        return device_of_a_worker(value)

    @model_validator(mode="after")
    def _gpus_are_used(self) -> Self:
        if self.device == "cpu" and self.gpus_per_worker:
            raise ValueError(
                f"gpus_per_worker = {self.gpus_per_worker:g} with device = cpu: nothing would use them; leave one out"
            )
        self.require_gpu_for(self.device)
        return self

    def require_gpu_for(self, device: str) -> None:
        """ValueError for a GPU where workers are to have none."""
        if device not in ("auto", "cpu") and self.gpus_per_worker == 0:
            raise ValueError(f"gpus_per_worker = 0 with device = {device}: it would have none; leave one out")

    @property
    def gpu_share(self) -> float:
        """How much of a GPU is a worker's."""
        return self.gpus_per_worker or 1.0


def device_of_a_worker(value: str) -> str:
    """The name of a device as a worker sees it. ValueError for any other."""
    if DEVICE.fullmatch(value) is None:
        raise ValueError("must be 'auto', 'cpu', or a GPU: 'cuda', 'mps', 'xpu'")
    kind, _, number = value.partition(":")
    if int(number or 0) > 0:
        raise ValueError(
            f"a worker sees none but its own GPU, as number 0: write '{kind}', and choose among several GPUs where "
            "Ray is started (CUDA_VISIBLE_DEVICES)"
        )
    return value
