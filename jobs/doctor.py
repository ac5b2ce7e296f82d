"""`python -m jobs.doctor`: would a job start here? One line a check, with what to do where one fails.

It takes the flags of jobs.compress as they are; what is not given is not looked at. Nothing is left behind: the file
that proves conditional creation is removed, a local Ray stopped. Weights are loaded only where they are small and the
method asks the model. Exit code 1 if a check fails.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distributions, metadata, packages_distributions, requires
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

try:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name
    from pydantic import Field

    from cluster.command import Command
    from cluster.config import Inputs, JobConfig, Output
    from cluster.errors import AbortRun, ClusterError
    from cluster.output.prepare import make_plan
    from cluster.output.records import counted
    from cluster.placement import MOST_WORKERS, ResourceRequest, fitted, is_elsewhere
    from cluster.run.worker import require_loadable
    from cluster.stopping import exit_code
    from cluster.storage.storage import LOCAL, Storage, protocol_of
    from lingua.errors import LinguaError
    from lingua.explain import in_words, public
    from lingua.models.source import resolve
    from lingua.text.tokens import require_target
except ImportError as error:  # `cluster` itself names a `lingua` of another distribution
    sys.exit(f"✗ packages  {error}" + "; pip install --upgrade lingua-batch" * ("another dist" not in str(error)))

OURS = "lingua-batch"
CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"
NOWHERE = "memory://nowhere/output"
SMALL = 1 << 30
"""Bytes of a model's files up to which it is loaded, to see whether it runs packed."""
NAMED = ("torch", "transformers", "ray", "pyarrow")
ASIDE = "– "
"""How a check begins that did not look, or found what only matters to some."""
_WITHOUT_TOKEN = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False)"


class DoctorConfig(JobConfig):
    """The settings of a job that is to be started; none must be given."""

    command: ClassVar[Command] = replace(
        JobConfig.command,
        name="jobs.doctor",
        usage="[any setting of jobs.compress]",
        summary="Would this job start here? Versions, devices, Ray, model, inputs and storage; exit code 1 if not.",
        examples="",
    )

    inputs: Inputs = Field((), alias="input", description="files that the job is to read")
    output: Output = Field(NOWHERE, description="where it is to write")


def main(argv: Sequence[str] | None = None) -> int:
    """0: a job would start. 1: something is missing, each in a line. 2: the settings are wrong."""
    return exit_code(lambda: examine(DoctorConfig.load(argv)))


def examine(config: DoctorConfig) -> int:
    """Print what each check finds; 1 if one fails."""
    failed = 0
    for name, check in CHECKS.items():
        try:
            text = check(config)
            mark = ASIDE if text.startswith(ASIDE) else "✓ "
        except Exception as error:  # ours say what to do; a library that is broken or missing raises what it likes
            ours = isinstance(error, (LinguaError, ClusterError))
            mark, text = "✗ ", str(error) if ours else f"{type(error).__name__}: {in_words(error)}"
        failed += mark == "✗ "
        print(f"{mark}{name:<9} {public(text.removeprefix(ASIDE))}", flush=True)
    print(f"{failed} of {len(CHECKS)} checks failed." if failed else "Nothing speaks against a start.")
    return int(failed > 0)


def _python(_: DoctorConfig) -> str:
    """This Python against what the distribution asks for."""
    have, wanted = platform.python_version(), ""
    with suppress(PackageNotFoundError):  # run from its files
        wanted = metadata(OURS)["Requires-Python"] or ""
    if SpecifierSet(wanted).contains(have, prereleases=True):
        return have
    raise AbortRun(f"{have}, and {OURS} needs {wanted}: make an environment with such a one")


def _packages(_: DoctorConfig) -> str:
    """Versions of what the distribution requires, against its bounds and against the tested ones."""
    needed = [Requirement(name) for name in NAMED]
    with suppress(PackageNotFoundError):
        needed = [Requirement(text) for text in requires(OURS) or [] if "extra ==" not in text]
    installed = {canonicalize_name(one.name): one.version for one in distributions()}
    have = {one.name: installed.get(canonicalize_name(one.name), "") for one in needed}
    bad = [one for one in needed if not have[one.name] or not one.specifier.contains(have[one.name], prereleases=True)]
    if bad:
        told = ", ".join(f"{one.name} is {have[one.name] or 'not installed'}" for one in bad)
        raise AbortRun(f"{told}; pip install " + " ".join(f"'{one}'" for one in bad))
    named = ", ".join(f"{name} {have[name]}" for name in NAMED)
    lines = CONSTRAINTS.read_text().splitlines() if CONSTRAINTS.is_file() else []  # a wheel does not carry it
    tested = {name: SpecifierSet(f"=={pin}") for name, _, pin in (line.partition("==") for line in lines)}
    other = [f"{name} {found}" for name, found in have.items() if name in tested and found not in tested[name]]
    return f"{named}, {len(needed) - len(NAMED)} more" + (f"; not as tested: {', '.join(other)}" if other else "")


def _names(_: DoctorConfig) -> str:
    """Other distributions with packages of our names: the one installed last overwrites the other's files."""
    known = packages_distributions()
    others = {name: sorted({*known.get(name, ())} - {OURS}) for name in ("lingua", "cluster", "jobs")}
    if told := [f"{' and '.join(those)} installs a package {name!r} too" for name, those in others.items() if those]:
        raise AbortRun(f"{'; '.join(told)}; install {OURS} into an environment of its own")
    return "no other distribution has packages named lingua, cluster or jobs"


def _torch(_: DoctorConfig) -> str:
    """GPUs as torch sees them."""
    import torch

    if cards := [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]:
        return f"{len(cards)} GPUs: {', '.join(dict.fromkeys(cards))}"
    if Path("/proc/driver/nvidia/version").exists() and not torch.version.cuda:
        raise AbortRun("there is a GPU, and this torch is a build for processors; install the one for its CUDA")
    return f"{ASIDE}no GPU: models compute on {os.cpu_count()} processors"


def _model(config: DoctorConfig) -> str:
    """Model and tokenizer, as far as can be told without weights."""
    require_loadable(config)
    require_target(config.compression.target_tokenizer)
    size = resolve(config.model).size
    files = f"{size / 1e6:,.0f} MB of files" if size else "weights are downloaded at the first start"
    return f"{config.model}: tokenizer and configuration can be read; {files}"


def _packed(config: DoctorConfig) -> str:
    """Whether rows run packed: tried where the model is small, else what its configuration says."""
    if config.compression.own.needs != "causal":
        return f"{ASIDE}method {config.compression.method} asks no causal language model"
    from transformers import AutoConfig

    from lingua.models.load import Loader
    from lingua.models.trial import RefusedError, refuse_by_configuration

    source, packing = resolve(config.model), "nothing in its configuration speaks against it; a worker tries it"
    loader = Loader(source, config.device, config.dtype, trust_remote_code=config.trust_remote_code)
    try:
        if source.size and source.size <= SMALL:
            packing = str(getattr(loader.scorer("causal"), "packing", ""))
        elif not source.gguf:
            refuse_by_configuration(loader.load(AutoConfig).get_text_config(), "eager")
    except RefusedError as error:
        packing = f"row by row: {error}"
    if packing.startswith("row by row"):
        raise AbortRun(f"{packing}; it would work, slowly: give a model of a usual kind, like Llama's or Qwen's")
    return packing


def _input(config: DoctorConfig) -> str:
    """Files, shards and columns, as the job would plan them."""
    if not config.inputs:
        return f"{ASIDE}not given (--input)"
    plan = make_plan(config, "")
    there = f"{counted(len(plan.sources), 'file')} in {counted(len(plan.shards), 'shard')}"
    return f"{there}; reads {', '.join(plan.columns.mapped.all)}"


def _output(config: DoctorConfig) -> str:
    """A file is created where there is none, not created where there is one, and removed."""
    if config.output == NOWHERE:
        return f"{ASIDE}not given (--output)"
    storage, folder = Storage(config.storage_options), config.output
    while protocol_of(folder) in LOCAL and not os.path.lexists(folder):
        folder = os.path.dirname(folder)  # so that no folder is made for it
    probe = f"{folder.rstrip('/')}/_doctor-{uuid4().hex}"
    try:
        storage.create(probe, b"first")
        again, kept = storage.create(probe, b"second"), storage.read(probe)
    finally:
        storage.delete(probe)
    if again or kept != b"first":
        raise AbortRun(
            f"{config.output}: this store overwrites what is to be created only if absent, so two drivers could double "
            "rows; write to a store with conditional puts (If-None-Match), or to a local disk"
        )
    return f"{folder}: a file was created only as it was absent, and is removed"


def _ray(config: DoctorConfig) -> str:
    """A Ray of its own, or the cluster at RAY_ADDRESS: what it has, and whether a worker fits."""
    from cluster.run.pool import machines, session

    with session() as fixed:
        there = machines()
    gpus, cpus = sum(one.gpus for one in there), sum(one.cpus for one in there)
    if fixed:
        size: int | None = 0
        with suppress(LinguaError):  # the check of the model says it
            size = resolve(config.model).size
        request = ResourceRequest.of(config, MOST_WORKERS, [config.compression.own.needs], size)
        fitted(request, request.shape(gpus, cpus), there)
        import torch

        if (seen := torch.cuda.device_count()) != gpus:
            raise AbortRun(f"Ray sees {gpus:g} GPUs here and torch {seen}; set CUDA_VISIBLE_DEVICES alike for both")
    return f"{'its own' if fixed else 'the cluster'}: {counted(len(there), 'machine')}, {gpus:g} GPUs, {cpus:g} CPUs"


def _token(config: DoctorConfig) -> str:
    """Whether whoever reaches Ray must know a token; a cluster is asked without one."""
    if not is_elsewhere():
        if (mode := os.environ.get("RAY_AUTH_MODE", "token").lower()) != "token":
            raise AbortRun(f"RAY_AUTH_MODE is {mode}: a local Ray would ask no one for a token; leave it out")
        return "a local Ray draws one for each run, and listens on loopback alone"
    asked = [sys.executable, "-c", _WITHOUT_TOKEN, os.environ["RAY_ADDRESS"]]
    answer = subprocess.run(asked, env={**os.environ, "RAY_AUTH_MODE": "disabled"}, capture_output=True, text=True)
    if answer.returncode == 0:
        raise AbortRun("the cluster lets in who has none; set RAY_AUTH_MODE=token where it is started")
    return "the cluster refuses who has none" if "Unauthenticated" in answer.stderr else f"{ASIDE}no cluster answers"


CHECKS: dict[str, Callable[[DoctorConfig], str]] = {
    check.__name__.strip("_"): check
    for check in (_python, _packages, _names, _torch, _model, _packed, _input, _output, _ray, _token)
}

if __name__ == "__main__":
    sys.exit(main())
