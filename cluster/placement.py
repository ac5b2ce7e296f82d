"""How many workers a job has and what each occupies: the settings (`Placement`), and what of it fits on the machines.

For all jobs that hand out shards. Plain arithmetic, without I/O and without Ray.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from cluster.settings import Settings
from lingua.engine.score import Needs
from lingua.errors import ConfigError
from lingua.explain import PERCENT

MOST_WORKERS = 100_000
SMALLEST_SHARE = 1e-4
"""Of a GPU; Ray counts in ten-thousandths."""
DEVICE = re.compile(r"auto|cpu|(cuda|mps|xpu|hpu|npu)(:\d+)?")
THREADS_PER_WORKER = 4
"""Where it is not known whether memory holds a worker for each core."""
WORKER_BYTES = 5 << 28
WEIGHT_BYTES = 4
"""A worker on a CPU needs 1.25 GiB, and so many bytes for each byte of the model's files: they are stored short."""
_ROUNDING = 1e-6
MOST_ON_A_CORE = 100


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


Share = Annotated[float, BeforeValidator(parse_share)]
GpuShare = Annotated[float, Field(ge=0), AfterValidator(whole_or_a_part)]


class Placement(Settings):
    """Settings of workers and of the devices that they compute on."""

    device: Annotated[str, AfterValidator(device_of_a_worker)] = Field(
        "auto", description="'auto', 'cpu', or a GPU: 'cuda', 'mps', …"
    )
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

    @model_validator(mode="after")
    def _gpus_are_used(self) -> Self:
        if self.device == "cpu" and self.gpus_per_worker:
            given = f"gpus_per_worker = {self.gpus_per_worker:g} with device = cpu"
            raise ValueError(f"{given}: nothing would use them; leave one out")
        self.require_gpu_for(self.device)
        return self

    def require_gpu_for(self, device: str) -> None:
        """ValueError for a GPU where workers are to have none."""
        if device not in ("auto", "cpu") and self.gpus_per_worker == 0:
            raise ValueError(f"gpus_per_worker = 0 with device = {device}: it would have none; leave one out")

    @property
    def gpu_share(self) -> float:
        return self.gpus_per_worker or 1.0


# ---- what fits on the machines


def is_elsewhere() -> bool:
    """Whether the job runs on a cluster that is there: RAY_ADDRESS names it, and is set inside a submitted job."""
    return os.environ.get("RAY_ADDRESS", "") not in ("", "local")


@dataclass(frozen=True, slots=True)
class Machine:
    gpus: float
    cpus: float


@dataclass(frozen=True, slots=True)
class WorkerShape:
    """How many workers, and what each occupies. Without GPUs, `workers` × `threads` = the processors."""

    workers: int
    gpus: float
    threads: int
    share: float | None = None  # of a processor, where there are more workers than processors

    @property
    def cpus(self) -> float:
        return self.threads if self.share is None else self.share

    def room(self, machines: Sequence[Machine]) -> int:
        """How many such workers fit on these machines at once."""
        rooms = 0
        for machine in machines:
            by_cpus = int(machine.cpus / self.cpus + _ROUNDING)
            rooms += min(by_cpus, _room_on_gpus(machine.gpus, self.gpus)) if self.gpus else by_cpus
        return rooms


def _room_on_gpus(gpus: float, share: float) -> int:
    """Workers of a share of a GPU each: a worker with a part of one has all of it on the same one."""
    return int(gpus / share + _ROUNDING) if share >= 1 else int(gpus) * int(1 / share + _ROUNDING)


def fitted(request: ResourceRequest, shape: WorkerShape, machines: Sequence[Machine]) -> WorkerShape:
    """The shape, if all its workers fit on these machines, to which none will be added; else ConfigError.

    More workers than processors, where nothing is said of the processors of each, share them.
    """
    there = f"{sum(one.gpus for one in machines):g} GPUs and {sum(one.cpus for one in machines):g} CPUs"
    asked = ("gpus_per_worker", "cpus_per_worker", "workers")
    told = ", ".join(f"{name} = {value:g}" for name in asked if (value := getattr(request, name)))
    each = f"{shape.gpus:g} GPU and {shape.cpus:g} CPU" if shape.gpus else f"{shape.cpus:g} CPU"
    if not (room := shape.room(machines)):
        raise ConfigError(
            f"{told}: a worker would need {each}, and this machine has {there}; ask for less per worker, or name a "
            "cluster in RAY_ADDRESS"
        )
    if shape.workers <= room:
        return shape
    if request.workers is None:
        return replace(shape, workers=room)
    if not shape.gpus and not request.cpus_per_worker and shape.workers <= MOST_ON_A_CORE * room:
        cpus = sum(one.cpus for one in machines)
        return replace(shape, share=int(cpus / shape.workers * 1e4) / 1e4)  # Ray counts in ten-thousandths
    raise ConfigError(
        f"{told}: each worker needs {each}, and this machine has {there}, room for {room}; ask for fewer workers or "
        "less per worker, or name a cluster in RAY_ADDRESS"
    )


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """What the user asked for; None leaves it to the machines at hand. `shards` is how many could be run at once."""

    shards: int
    workers: int | None = None
    gpus_per_worker: float | None = None
    cpus_per_worker: float | None = None
    model_bytes: int | None = None  # size of the model's files; None: not known before they are loaded
    fixed: bool = False  # whether no machine will ever join those at hand

    @classmethod
    def of(
        cls, config: Placement, shards: int, needs: Collection[Needs], model_bytes: int | None = None
    ) -> ResourceRequest:
        """What a job's settings ask for. Methods without a language model have no GPU unless one is asked for."""
        gpus, light = config.gpus_per_worker, {*needs} <= {"nothing", "sentences"}
        if config.device == "cpu" or (light and config.device == "auto"):
            gpus = gpus or 0.0
        return cls(shards, config.workers, gpus, config.cpus_per_worker, 0 if light else model_bytes)

    def shape(self, gpus: float, cpus: float, memory: float = 0.0) -> WorkerShape:
        """The workers that fit on a cluster with so many GPUs, processors and bytes of memory (0: not known)."""
        threads = max(1, int(self.cpus_per_worker)) if self.cpus_per_worker else None
        if self.gpus_per_worker or (self.gpus_per_worker is None and gpus):
            share = self.gpus_per_worker or 1.0
            workers = self.workers or max(1, min(self.shards, _room_on_gpus(gpus, share)))
            return WorkerShape(workers, share, threads or 1)
        cores = max(1, int(cpus))
        if threads is None:
            threads = max(1, cores // (self.workers or self._workers_on(cores, memory)))
        return WorkerShape(self.workers or max(1, min(self.shards, cores // threads)), 0.0, threads)

    def _workers_on(self, cores: int, memory: float) -> int:
        """One for each core, as far as memory goes: threads of one worker wait for each other."""
        wanted = min(THREADS_PER_WORKER, cores // 2)
        if self.model_bytes is not None and memory:
            room = max(1, int(memory / (WORKER_BYTES + WEIGHT_BYTES * self.model_bytes)))
            wanted = -(-cores // room)
        return max(1, min(self.shards, cores // max(1, wanted)))
