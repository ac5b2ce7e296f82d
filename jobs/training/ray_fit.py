"""The same function on several workers through Ray Train; the training jobs' only file that imports Ray.

Ray Train places the workers, sets up torch.distributed between them and starts all of them again when one dies or its
node is taken. What they have done is found in storage: Ray itself keeps nothing, so its own records go to a temporary
directory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import ray
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.train.v2.api.train_fn_utils import get_context
from ray.train.v2.torch.torch_trainer import TorchTrainer
from ray.train.v2.torch.train_loop_utils import get_device

from cluster.errors import AbortRun
from jobs.training.place import Place
from lingua.errors import LinguaError

Config = TypeVar("Config")


@dataclass(frozen=True, slots=True)
class Resources:
    """What is asked of the cluster; `gpus` None: one per worker if there is any."""

    workers: int
    cpus: float
    gpus: float | None
    max_failures: int

    def scaling(self) -> ScalingConfig:
        """In Ray's words."""
        there = float(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
        gpus = min(1.0, there) if self.gpus is None else self.gpus
        needs = {"CPU": self.cpus, **({"GPU": gpus} if gpus else {})}
        return ScalingConfig(num_workers=self.workers, use_gpu=gpus > 0, resources_per_worker=needs)


@dataclass(frozen=True, slots=True)
class Task(Generic[Config]):
    """`work(config, place)`, to be run by every worker; both travel by pickle."""

    work: Callable[[Config, Place], None]
    config: Config

    def __call__(self, place: Place) -> None:
        self.work(self.config, place)


def fit(task: Task[Any], resources: Resources) -> None:
    """Run a task on all workers and wait. Inside a `cluster.pool.session`. Raises AbortRun with the first cause."""
    with tempfile.TemporaryDirectory(prefix="lingua-ray-") as folder:
        trainer = TorchTrainer(
            partial(_on_worker, task),
            scaling_config=resources.scaling(),
            run_config=RunConfig(
                name="run",
                storage_path=folder,
                failure_config=FailureConfig(max_failures=resources.max_failures),
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )
        try:
            result: Any = trainer.fit()  # typed as that of the older interface
        except TrainingFailedError as error:
            raise AbortRun(f"the workers failed more than {resources.max_failures} times: {_cause(error)}") from error
    if result.return_value:
        raise AbortRun(str(result.return_value))


def _on_worker(task: Task[Any]) -> str | None:
    """What no second attempt would change is told, not raised, since Ray would start all workers again."""
    context = get_context()
    try:
        task(Place(context.get_world_rank(), context.get_world_size(), get_device()))
    except (LinguaError, AbortRun) as error:
        return str(error)
    return None


def _cause(error: BaseException) -> str:
    failures = getattr(error, "worker_failures", None) or {0: error}
    return " ".join(str(next(iter(failures.values()))).split())[-500:]
