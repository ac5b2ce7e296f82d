"""`RayPool`: the driver's workers as Ray actors, and `session`: the Ray they live in. The only file that imports Ray.

One actor holds one model and one assignment. All wanted actors are asked for at once, so that pending ones tell an
autoscaler what is missing; each is used as soon as it is ready; dead ones are replaced, and when machines join, actors
are added. Ray itself never restarts or retries anything here (`max_restarts=0`, `max_task_retries=0`): what a death
means is for the driver to decide, and a lost node is told from a worker that died by itself. A wrong address is told at
once: Ray itself tries for minutes, then ends the process.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import os
import platform
import secrets
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError
from ray.util import metrics as ray_metrics

import cluster
import lingua
from cluster.errors import AbortRun
from cluster.placement import Machine, ResourceRequest, fitted, is_elsewhere
from cluster.protocol import Assignment, Beat, Failure, Finished, MakeRunner, Pool, Runner, ShardReport
from cluster.report.telemetry import Metric
from cluster.run.worker import failure_of
from cluster.storage.credentials import public_address
from cluster.storage.storage import submitted
from lingua.explain import in_words, public

SECONDS_FOR_AN_ANSWER = 10.0
_REMEDY = "write HOST:PORT, ray://HOST:PORT or auto (RAY_ADDRESS), or leave it out for a Ray of its own on this machine"
START_ATTEMPTS = 3
SECONDS_BETWEEN_CENSUSES = 5.0
SECONDS_BETWEEN_BEATS = 1.0
_LOCAL = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""The token is drawn once for a process, as Ray remembers it; without one it would keep its own in the home folder."""


@contextmanager
def reachable(address: str) -> Iterator[None]:
    """Attaches inside. AbortRun when nothing answers at this address, or when it is none."""
    shown = public_address(address)
    host, colon, port = shown.rpartition("://")[2].rpartition(":")
    try:
        if colon and port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_FOR_AN_ANSWER).close()
        yield
    except (OSError, OverflowError, ValueError) as error:
        said = str(error).replace(address, shown)
        raise AbortRun(f"address = {shown}: no Ray cluster answers there ({public(said)}); {_REMEDY}") from None


@contextmanager
def session(packages: Sequence[ModuleType] = ()) -> Iterator[bool]:
    """Ray, for as long as one is inside: the cluster at RAY_ADDRESS (set inside a job), else a local one.

    Yields whether its machines are all that there will ever be, as those of a local one are.

    A local Ray listens on loopback only and demands a token that is drawn for it. Everything that was started is
    stopped at the end.

    packages   what workers need beside `cluster` and `lingua`, shipped to a cluster that one attaches to
    """
    fixed = not is_elsewhere()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    # Ray prints every death of a worker to standard output, with no setting against it; the driver tells them too
    hushed = _replaced("worker", "print_to_stdstream", lambda *_, **__: None)
    # while Ray starts, its handlers of SIGTERM end the process, with codes that say nothing: one that is there stays
    handled = signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    kept = _replaced("utils", "set_sigterm_handler", lambda _: None) if handled else nullcontext()
    with hushed, kept, _environment(_LOCAL if fixed else {}):
        try:
            if fixed:
                # Ray takes the machine's own address even for 127.0.0.1, and listens on every interface, unless
                # clusters of several machines are ruled out, as they are on Windows and macOS. The processes that are
                # started read the variable.
                alone = _environment({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}, over=True)
                with alone, _replaced("ray_constants", "ENABLE_RAY_CLUSTER", False):
                    try:
                        ray.init("local", include_dashboard=False, **quiet)
                    except Exception as error:  # of whatever kind: a process of Ray's own did not come up
                        advice = "look at /tmp/ray/session_latest/logs, and whether memory and /tmp have room"
                        raise AbortRun(f"Ray does not start here: {in_words(error)}; {advice}") from None
            else:
                # a submitted job brings its working directory along; whoever attaches from elsewhere ships the packages
                shipped = [] if submitted() else [cluster, lingua, *packages]
                code = {"py_modules": [str(Path(package.__path__[0])) for package in shipped]} if shipped else {}
                with reachable(os.environ["RAY_ADDRESS"]):
                    ray.init(runtime_env=code, **quiet)
            yield fixed
        finally:
            ray.shutdown()


@contextmanager
def _replaced(module: str, name: str, value: object) -> Iterator[None]:
    """A private name of Ray's stands for `value` while inside; a Ray that has no such name goes on without."""
    try:
        owner: Any = importlib.import_module(f"ray._private.{module}")
        before = getattr(owner, name)
    except (ImportError, AttributeError):
        yield
        return
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _environment(variables: Mapping[str, str], *, over: bool = False) -> Iterator[None]:
    """Variables of the environment while inside; those that are set already prevail, unless `over`."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update({name: value for name, value in variables.items() if over or before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


class RayMetrics:
    """`Metrics` that Ray exports for Prometheus. `run` is a label; may be sent to other processes."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._known: dict[Metric, Any] = {}

    def __reduce__(self) -> tuple[type[RayMetrics], tuple[str]]:
        return RayMetrics, (self._run,)

    def record(self, metric: Metric, value: float, **labels: str) -> None:
        if metric not in self._known:
            kind = ray_metrics.Counter if metric.kind == "counter" else ray_metrics.Gauge
            made = self._known[metric] = kind(metric.name, metric.description, ("run", "worker", *metric.labels))
            made.set_default_tags({"run": self._run, "worker": f"{platform.node()}:{os.getpid()}"})
        if metric.kind == "gauge":
            self._known[metric].set(value, tags=labels)
        elif value > 0:
            self._known[metric].inc(value, tags=labels)


class _Actor:
    """A runner in a process of its own. A runner that cannot be built is reported, not raised: Ray would hide why."""

    def __init__(self, make: MakeRunner, sees_gpus: bool) -> None:
        self._failure: Failure | None = None
        if not sees_gpus:  # Ray leaves all of the machine's visible to an actor that reserves none
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        try:
            self._runner: Runner = make()
        except Exception as error:
            self._failure = failure_of(error)

    def ready(self) -> tuple[str, Failure | None]:
        """Its node, and why it cannot work."""
        return ray.get_runtime_context().get_node_id(), self._failure

    def attempt(self, assignment: Assignment) -> ShardReport | Failure:
        return self._runner.attempt(assignment)

    @ray.method(concurrency_group="beat")
    def beat(self) -> Beat:
        return self._runner.beat()


@dataclass(slots=True)
class _Handle:
    """One actor. `pending`: what it was asked last; `node`: None until it is ready."""

    actor: Any
    pending: Any
    node: str | None = None
    assignment: Assignment | None = None
    beat: Beat = field(default_factory=Beat)
    asked: Any = None
    asked_at: float = 0.0


class RayPool(Pool):
    """Actors, each with the runner that `make` builds in its own process.

    ConfigError at once when the workers that are wished for do not fit on these machines and none will ever join.
    """

    def __init__(self, make: MakeRunner, request: ResourceRequest) -> None:
        self._make = make
        self._request = request
        shape = request.shape(*_resources())
        self._shape = fitted(request, shape, machines()) if request.fixed else shape
        self._handles: dict[str, _Handle] = {}
        self._numbers = itertools.count()
        self._failed_starts = 0
        self._census = time.monotonic()
        self._fill()

    def size(self) -> int:
        return sum(handle.node is not None for handle in self._handles.values())

    def idle(self) -> Sequence[str]:
        return [name for name, handle in self._handles.items() if handle.node and handle.assignment is None]

    def submit(self, worker: str, assignment: Assignment) -> None:
        handle = self._handles[worker]
        handle.assignment, handle.beat, handle.asked = assignment, Beat(), None
        handle.pending = handle.actor.attempt.remote(assignment)

    def wait(self, timeout: float) -> Sequence[Finished]:
        if time.monotonic() - self._census >= SECONDS_BETWEEN_CENSUSES:
            self._census = time.monotonic()
            self._fill()
        waiting = {handle.pending: name for name, handle in self._handles.items() if handle.pending is not None}
        if not waiting:
            time.sleep(timeout)
            return []
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=timeout)
        more, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        ended = [self._answer(waiting[reference]) for reference in {*ready, *more}]
        return [finished for finished in ended if finished is not None]

    def beats(self) -> Mapping[str, Beat]:
        busy = {name: handle for name, handle in self._handles.items() if handle.assignment is not None}
        for handle in busy.values():
            _listen(handle)
        return {name: handle.beat for name, handle in busy.items()}

    def end(self, worker: str) -> None:
        self._bury(worker)
        self._fill()

    def outlook(self) -> str:
        each = f"{self._shape.gpus:g} GPU" if self._shape.gpus else f"{self._shape.threads} CPU"
        has = f"{_resource('GPU'):g} GPUs and {_resource('CPU'):g} CPUs"
        never = "" if self._shape.room(machines()) else "; none of its machines can hold one, so one must join"
        return f"{len(self._handles)} starting or pending, each needs {each}; the cluster has {has}{never}"

    def close(self) -> None:
        for worker in list(self._handles):
            self._bury(worker)

    def _answer(self, worker: str) -> Finished | None:
        """The end of an assignment, or None when a starting actor answered."""
        handle = self._handles[worker]
        assignment, reference = handle.assignment, handle.pending
        handle.assignment = handle.pending = None
        try:
            answer = ray.get(reference)
        except RayError as error:
            self._bury(worker)
            self._fill()
            failure = _death(error, handle.node)
            if assignment is None:
                self._start_failed(failure)
                return None
            return Finished(worker, assignment, failure)
        if assignment is None:
            self._started(worker, *answer)
            return None
        return Finished(worker, assignment, answer)

    def _started(self, worker: str, node: str, failure: Failure | None) -> None:
        if failure is None:
            self._failed_starts, self._handles[worker].node = 0, node
            return
        self._bury(worker)
        self._start_failed(failure)
        self._fill()

    def _start_failed(self, failure: Failure) -> None:
        if failure.kind == "lost":
            return
        self._failed_starts += 1
        if failure.kind == "fatal":
            raise AbortRun(f"a worker cannot be started: {failure.detail}")
        if self._failed_starts >= max(START_ATTEMPTS, self._shape.workers):
            raise AbortRun(f"{self._failed_starts} workers in a row could not be started, the last: {failure.detail}")

    def _fill(self) -> None:
        """Ask for every worker that is wanted and not there; more machines mean more workers."""
        wanted = (self._shape if self._request.fixed else self._request.shape(*_resources())).workers
        for _ in range(wanted - len(self._handles)):
            how: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0, "concurrency_groups": {"beat": 1}}
            made: Any = ray.remote(num_gpus=self._shape.gpus, num_cpus=self._shape.cpus, **how)(_Actor)
            actor = made.remote(self._make, self._shape.gpus > 0)
            self._handles[f"worker-{next(self._numbers)}"] = _Handle(actor, actor.ready.remote())

    def _bury(self, worker: str) -> None:
        ray.kill(self._handles.pop(worker).actor, no_restart=True)


def _listen(handle: _Handle) -> None:
    """Take the answer to the last question for a sign of life, if there is one, and ask again; never waits."""
    now = time.monotonic()
    if handle.asked is not None and ray.wait([handle.asked], timeout=0)[0]:
        try:
            handle.beat, handle.asked = ray.get(handle.asked), None
        except RayError:
            return  # its death arrives with the assignment
    if handle.asked is None and now - handle.asked_at >= SECONDS_BETWEEN_BEATS:
        handle.asked, handle.asked_at = handle.actor.beat.remote(), now


def _death(error: RayError, node: str | None) -> Failure:
    """A lost node says nothing about the shard; a worker that died on a living node does.

    A living node reports how its worker ended. Where the connection broke without such a report (ActorUnavailable), the
    node is gone, though it may take Ray a quarter of a minute to say so.
    """
    detail = " ".join(str(error).split())
    preempted = isinstance(error, RayActorError) and error.preempted
    lost = preempted or isinstance(error, ActorUnavailableError) or "node has died" in detail
    if not lost and node is not None:
        entries = ray.nodes()  # type: ignore[no-untyped-call]
        lost = not any(entry["NodeID"] == node and entry["Alive"] for entry in entries)
    if lost:
        return Failure("lost", "node_lost", "the machine of its worker went away")
    how = detail.rpartition("exit detail: ")[2] if "exit detail: " in detail else detail
    return Failure("died", "worker_died", f"its worker's process ended: {how[:200]}")


def machines() -> list[Machine]:
    """The living machines of the cluster."""
    held = (entry["Resources"] for entry in ray.nodes() if entry["Alive"])  # type: ignore[no-untyped-call]
    return [Machine(float(one.get("GPU", 0)), float(one.get("CPU", 0))) for one in held]


def _resources() -> tuple[float, float, float]:
    """GPUs, processors and bytes of memory of the cluster."""
    return _resource("GPU"), _resource("CPU"), _resource("memory")


def _resource(name: str) -> float:
    return float(ray.cluster_resources().get(name, 0.0))  # type: ignore[no-untyped-call]
