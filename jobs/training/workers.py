"""Workers of a training job: the same function in this process or, through Ray Train, in several.

Ray Train places the workers, sets torch.distributed up between them, and starts all of them again when one dies or its
node is taken. What they have done is found in the run's folder: groups of rows and checkpoints. Ray keeps nothing, so
its own records go to a temporary directory.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, TypeVar

from cluster.errors import AbortRun, ClusterError
from cluster.output.folder import RunFolder
from cluster.placement import ResourceRequest, WorkerShape, fitted
from jobs.training.settings import TrainingConfig
from lingua.errors import LinguaError

T = TypeVar("T")
RESULT = "_result.json"
"""Where it is, the model is whole."""
PROGRESS = "_progress.json"
SECONDS = 5.0
"""Between two lines of progress."""


@dataclass(frozen=True, slots=True)
class Rank:
    """Worker `index` of `world`, which computes on `device` (a torch device, as text)."""

    index: int = 0
    world: int = 1
    device: str = "cpu"

    @property
    def leads(self) -> bool:
        """Whether this is the worker that measures and writes the model."""
        return self.index == 0


Work = Callable[[Any, Rank], None]
"""What every worker of a phase does, given the job's settings; can be killed and started again."""


def folder_of(config: TrainingConfig) -> RunFolder:
    return RunFolder(config.output, config.command.name, config.storage_options)


@contextmanager
def staff(config: TrainingConfig) -> Iterator[Callable[[Work], None]]:
    """A function that lets all workers do a passage of work and waits. Raises what the work does, or AbortRun."""
    if config.workers == 0:
        from lingua.models.load import choose_device

        with _unwinding():
            yield lambda work: work(config, Rank(device=str(choose_device("auto"))))
        return
    from cluster.run.pool import machines, session

    with session() as fixed, _unwinding():  # inside: Ray brings a handler of its own, which aborts
        if fixed:
            gpus = _gpus(config)
            wish = ResourceRequest(1, config.workers, gpus or None, config.cpus_per_worker)
            fitted(wish, WorkerShape(config.workers, gpus, 1, config.cpus_per_worker), machines())
        yield partial(_on_ray, config)


def _gpus(config: TrainingConfig) -> float:
    import ray

    there = float(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    return min(1.0, there) if config.gpus_per_worker is None else config.gpus_per_worker


def _on_ray(config: TrainingConfig, work: Work) -> None:
    from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.exceptions import TrainingFailedError
    from ray.train.v2.torch.torch_trainer import TorchTrainer

    gpus = _gpus(config)
    needs = {"CPU": config.cpus_per_worker, **({"GPU": gpus} if gpus else {})}
    with tempfile.TemporaryDirectory(prefix="lingua-ray-") as folder:
        trainer = TorchTrainer(
            partial(_in_worker, work, config),
            scaling_config=ScalingConfig(num_workers=config.workers, use_gpu=gpus > 0, resources_per_worker=needs),
            run_config=RunConfig(
                name="run",
                storage_path=folder,
                failure_config=FailureConfig(max_failures=config.max_failures),
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )
        try:
            result: Any = trainer.fit()  # typed as that of the older interface
        except TrainingFailedError as error:
            first = next(iter((getattr(error, "worker_failures", None) or {0: error}).values()))
            cause = " ".join(str(first).split())[-500:]
            raise AbortRun(f"the workers failed more than {config.max_failures} times: {cause}") from error
    if result.return_value:
        raise AbortRun(str(result.return_value))


def _in_worker(work: Work, config: TrainingConfig) -> str | None:
    """What no second attempt would change is returned, not raised, since Ray would start all workers again."""
    from ray.train.v2.api.train_fn_utils import get_context
    from ray.train.v2.torch.train_loop_utils import get_device

    context = get_context()
    try:
        work(config, Rank(context.get_world_rank(), context.get_world_size(), str(get_device())))
    except (LinguaError, AbortRun) as error:
        return str(error)
    return None


@contextmanager
def _unwinding() -> Iterator[None]:
    """SIGTERM ends the process by an exception, so that the lease and the workers are given back."""
    caught: list[int] = []

    def unwind(number: int, _: FrameType | None) -> None:
        caught.append(number)
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    except SystemExit:
        if caught:
            sys.exit(128 + caught[0])  # Ray makes a 1 of it while it waits
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


# ---- rows in groups


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows worked on in groups, each committed once as a file of JSON Lines in `name`; a killed run does the rest."""

    folder: RunFolder
    name: str

    def missing(self) -> int:
        """How many groups are not there yet; 1 while nobody knows how many there must be."""
        names = self.folder.names(self.name)
        total = json.loads(self.folder.read(f"{self.name}/_total.json")) if "_total.json" in names else 1
        return max(0, int(total) - sum(name.startswith("group-") for name in names))

    def make(
        self, rows: Sequence[T], size: int, rank: Rank, start: Callable[[], Callable[[Sequence[T]], list[str]]]
    ) -> None:
        """This worker's share of the groups that are missing. `start` gives what makes lines of a group's rows."""
        work, total = None, -(-len(rows) // size)
        progress = PhaseProgress(self.folder, self.name, rank)
        self.folder.create(f"{self.name}/_total.json", str(total).encode())
        there = self.folder.names(self.name)
        for number in range(rank.index, total, rank.world):
            file = f"group-{number:06d}.jsonl"
            if file not in there:
                work = work or start()
                lines = work(rows[number * size : (number + 1) * size])
                self.folder.create(f"{self.name}/{file}", "".join(f"{line}\n" for line in lines).encode())
            progress.tell(number + 1, total)

    def read(self) -> Iterator[dict[str, Any]]:
        """The content of all lines, in the order of the rows. AbortRun when groups are missing or damaged."""
        if missing := self.missing():
            raise AbortRun(f"{self.folder.url}/{self.name}: {missing} groups are missing; start the same command again")
        for name in sorted(name for name in self.folder.names(self.name) if name.startswith("group-")):
            try:
                yield from map(json.loads, self.folder.read(f"{self.name}/{name}").splitlines())
            except ValueError as error:
                where = f"{self.folder.url}/{self.name}/{name}"
                raise AbortRun(f"{where} is damaged ({error}); delete it and start again") from None


# ---- progress


class PhaseProgress:
    """How far a phase is: a small file in the run's folder that the leading worker writes every few seconds.

    Workers of a cluster print where nobody looks; a file works in every storage and shows in another terminal too.
    """

    def __init__(self, folder: RunFolder, phase: str, rank: Rank) -> None:
        self._folder, self._phase, self._leads, self._last = folder, phase, rank.leads, -SECONDS

    def tell(self, done: int, total: int, **figures: float) -> None:
        """`done` of `total`, and figures that go with it."""
        now = time.monotonic()
        if self._leads and (now - self._last >= SECONDS or done == total):
            self._last = now
            shown = "".join(f" · {name} {value:.3f}" for name, value in figures.items())
            with suppress(ClusterError):  # a line that is not shown harms nobody
                self._folder.write(PROGRESS, f"{self._phase}: {done} of {total}{shown}".encode())


@contextmanager
def shown_progress(folder: RunFolder) -> Iterator[None]:
    """Print what the leading worker tells, while inside."""
    ended = threading.Event()

    def look() -> None:
        seen = b""
        while not ended.wait(SECONDS):
            with suppress(ClusterError, FileNotFoundError):
                if (line := folder.read(PROGRESS)) != seen:
                    print(line.decode(), flush=True)
                    seen = line

    folder.delete(PROGRESS)
    thread = threading.Thread(target=look, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=10)
        with suppress(ClusterError):
            folder.delete(PROGRESS)
