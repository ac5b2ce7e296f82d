"""`python -m jobs.benchmarking.setup_peer`: create the peer's environment from `requirements-reference.txt`.

With `--target DIR` its packages (all but torch and numpy) go into a folder instead, for a machine on which the peer
must share an interpreter and a torch built for its device: `jobs.benchmark --peer-python … --peer-path DIR`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements-reference.txt"
SHARED = ("torch", "numpy")
"""What `--target` leaves to the interpreter at hand."""
EXTRA = ("defusedxml",)
"""Dependencies of nltk that an interpreter without it may lack."""


def requirements() -> list[str]:
    """The pinned packages, torch first."""
    lines = (line.split("#")[0].strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def create(python: str, environment: Path) -> None:
    """A virtual environment of `python` with all requirements; what is there already is kept."""
    if not (environment / "bin" / "python").exists():
        _run(python, "-m", "venv", str(environment))
    pip = (str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet")
    torch, *others = requirements()
    _run(*pip, torch)
    _run(*pip, torch, *others)


def fill(python: str, folder: Path) -> None:
    """The packages that `python` must not share, side by side in `folder`."""
    own = [line for line in requirements() if line.split("==")[0] not in SHARED]
    _run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *own, *EXTRA)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.benchmarking.setup_peer", description=__doc__)
    parser.add_argument("--python", default="python3.11", help="interpreter of the environment (default python3.11)")
    parser.add_argument("--environment", type=Path, default=ROOT / ".venv-reference", help="where it is created")
    parser.add_argument("--target", type=Path, help="fill this folder instead of creating an environment")
    flags = parser.parse_args(argv)
    try:
        if flags.target:
            fill(flags.python, flags.target)
        else:
            create(flags.python, flags.environment)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"setup_peer: {error}", file=sys.stderr)
        return 1
    return 0


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
