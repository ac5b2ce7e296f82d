"""Who may import whom: the library stands alone, and each heavy dependency has one door."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSES = ("lingua", "cluster", "jobs")
FILES = [path.relative_to(ROOT) for house in HOUSES for path in sorted((ROOT / house).rglob("*.py"))]
DOORS = {
    "ray": ("cluster/run/pool.py", "jobs/training/"),
    "torch": ("lingua/models/", "jobs/"),
    "transformers": ("lingua/models/", "lingua/text/tokens.py", "jobs/"),
    "pyarrow": ("cluster/", "jobs/"),
}
ABOVE = {"lingua": ("cluster", "jobs"), "cluster": ("jobs",), "jobs": ()}
FLOORS = (
    ("errors", "logs", "command", "settings", "placement"),
    ("storage",),
    ("input",),
    ("config", "stopping"),
    ("output",),
    ("protocol",),
    ("report",),
    ("run",),
)
"""The modules and packages of `cluster`, from the bottom up: each may import its own floor and those below."""


def modules(path: Path) -> Iterator[str]:
    """Modules that a file imports, at its head, lazily, or for type checking alone."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            beside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from beside if node.module in HOUSES else [node.module]


def imported(path: Path) -> set[str]:
    return {name.split(".")[0] for name in modules(path)}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_imports_only_from_its_own_floor_and_below(path: Path) -> None:
    assert not imported(path) & set(ABOVE[path.parts[0]])


def floor_of(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if module.split(".")[1] in rooms)


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "cluster"], ids=str)
def test_storage_knows_no_input_input_no_output_and_output_no_run(path: Path) -> None:
    if path.parts[1] in ("__init__.py", "deploy"):
        return
    own = floor_of(".".join(path.with_suffix("").parts))
    higher = [name for name in modules(path) if name.startswith("cluster.") and floor_of(name) > own]
    assert higher == []


@pytest.mark.parametrize("library", DOORS)
def test_a_heavy_library_comes_in_through_its_door_alone(library: str) -> None:
    users = [path.as_posix() for path in FILES if library in imported(path)]
    assert [user for user in users if not user.startswith(DOORS[library])] == []


def test_the_library_works_without_ray_and_pyarrow_and_loads_torch_only_for_models() -> None:
    code = (
        "import sys\n"
        "sys.modules['ray'] = sys.modules['pyarrow'] = None\n"
        "import lingua\n"
        "print(lingua.CompressionConfig().rate, 'torch' in sys.modules)\n"
        "import lingua.models.load, lingua.methods, jobs.benchmark\n"
        "print('torch' in sys.modules, 'fsspec' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "0.5 False\nTrue False\n"), done.stderr


_BARE = """
import socket, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
def offline(*_, **__):
    raise OSError("no network")
sys.meta_path.insert(0, Hidden())
socket.create_connection = socket.socket.connect = offline
import importlib.util
found = importlib.util.find_spec
def find_spec(name, package=None):
    try:
        return found(name, package)
    except ModuleNotFoundError:
        return None
importlib.util.find_spec = find_spec
import pytest
sys.exit(pytest.main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("hidden", "arguments", "expected"),
    [
        ("ray,moto,s3fs,fsspec,pyarrow,boto3,hypothesis,pytest_timeout", ["-m", "gpu"], "needs a CUDA device"),
        (
            "ray,moto,pytest_timeout",
            ["tests/cluster/run/test_pool.py", "tests/cluster/storage/test_names.py"],
            "needs ray",
        ),
    ],
    ids=["the tests of a GPU", "others"],
)
def test_the_suite_runs_without_ray_moto_and_the_network(hidden: str, arguments: list[str], expected: str) -> None:
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", _BARE, hidden, "-rs", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250)
    said = done.stdout + done.stderr
    assert done.returncode in (0, 5), said
    assert expected in said
    assert "error" not in said.lower(), said


WORKSHOPS = ("evaluation", "training", "benchmarking")


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[1] in WORKSHOPS], ids=str)
def test_workshops_import_nothing_of_each_other(path: Path) -> None:
    others = tuple(f"jobs.{name}." for name in WORKSHOPS if name != path.parts[1])
    assert [name for name in modules(path) if name.startswith(others)] == []
