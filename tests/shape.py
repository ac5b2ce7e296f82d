"""The shape of the house, measured: `python tests/shape.py` prints each bound and fails where one is broken.

Bounds that are not met yet are held where they stand (`NOT_YET`): what is there may shrink, but not grow.

Counted are Python files outside the tests. The way of a row is measured by running one: a small job in this process,
from the input file to the committed part, with every module noted that executes code for it.
"""

from __future__ import annotations

import ast
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PACKAGES = ("lingua", "cluster", "jobs")
BOUNDS = {
    "lines of Python": 17_000,
    "files": 160,
    "files in the fullest folder": 15,
    "lines of the longest file": 400,
    "class names used twice": 0,
    "import circles": 0,
    "modules on the way of a row": 30,
    "settings of jobs.compress": 60,
}
NOT_YET = {"lines of Python": 29_882}


def files() -> list[Path]:
    """Every Python file of the product and its workshops."""
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def name_of(path: Path) -> str:
    """The dotted name of a file's module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Modules of ours that a file imports, at its head, lazily, or for type checking alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ([name for name in inner if name in known] or [node.module] * (node.module in known))


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(arrows.get(name, ())):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(arrows):
        if name not in index:
            visit(name)
    return found


def class_names() -> dict[str, list[str]]:
    """Class name → the files that define one of this name, for names that occur twice."""
    where: dict[str, list[str]] = defaultdict(list)
    for path in files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                where[node.name].append(str(path.relative_to(ROOT)))
    return {name: paths for name, paths in where.items() if len(paths) > 1}


def way_of_a_row() -> list[str]:
    """Modules that execute code for the rows of one shard, from the input file to the committed part."""
    from cluster.config import JobConfig
    from cluster.output.ledger import Ledger
    from cluster.output.prepare import make_plan
    from cluster.protocol import Assignment
    from cluster.run.worker import Worker

    seen: dict[str, None] = {}
    paths = {str(path): name_of(path) for path in files()}

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_name != "<module>" and (name := paths.get(code.co_filename)):
            seen.setdefault(name)

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.jsonl")
        source.write_text('{"text": "The committee met on Tuesday. It agreed on a budget of 40 million euros."}\n' * 3)
        config = JobConfig(input=str(source), output=f"{folder}/out", method="llmlingua", rate=0.5)
        plan = make_plan(config, "digest")
        Ledger(config.output).open_or_create(plan)
        worker = Worker(config, plan)
        threading.setprofile(note)
        sys.setprofile(note)
        worker.attempt(Assignment(plan.shards[0]))
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return list(seen)


def measured() -> Iterator[tuple[str, int, str]]:
    """Each bound's name, what it is now, and what to look at where it is broken."""
    known = {name_of(path): path for path in files()}
    arrows = {name: set(imports(path, known)) - {name} for name, path in known.items()}
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files()}
    folders = Counter(str(path.parent.relative_to(ROOT)) for path in files())
    fullest, longest = (max(counts, key=counts.__getitem__) for counts in (folders, lengths))
    rings, twice, way = circles(arrows), class_names(), way_of_a_row()
    yield "lines of Python", sum(lengths.values()), ""
    yield "files", len(known), ""
    yield "files in the fullest folder", folders[fullest], fullest
    yield "lines of the longest file", lengths[longest], longest
    yield "class names used twice", len(twice), "; ".join(f"{name}: {', '.join(at)}" for name, at in twice.items())
    yield "import circles", len(rings), "; ".join(" ↔ ".join(ring) for ring in rings)
    yield "modules on the way of a row", len(way), ", ".join(way)
    yield "settings of jobs.compress", settings(), ""


def settings() -> int:
    """How many settings `jobs.compress` has."""
    from cluster.config import JobConfig

    return len(JobConfig.settings())


def main(say: Callable[[str], None] = print) -> int:
    """Print the measures; the exit code."""
    broken = 0
    for name, value, where in measured():
        over = value > BOUNDS[name]
        broken += value > NOT_YET.get(name, BOUNDS[name])
        most = f"at most {BOUNDS[name]:,}" + (f", for now {NOT_YET[name]:,}" if name in NOT_YET else "")
        say(f"{'✗' if over else '✓'} {name}: {value:,} ({most})" + (f"  {where}" if over and where else ""))
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
