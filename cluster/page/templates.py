"""Templates of our pages: everything is escaped, and a name that is not given is an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cluster.page.text import visible


def environment(folders: Sequence[Path]) -> Environment:
    """Where the templates of these folders are found; the filter `visible` shows what cannot be seen."""
    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(folders),
    )
    made.filters.update(visible=visible)
    return made
