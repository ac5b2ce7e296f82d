"""A trained model, put where it stays: its directory file by file, what makes it a model last, and then the result.

Libraries take a directory without some of its files for a model, with defaults in place of what is missing; without
`config.json` none does. So that file comes last and goes first: a run that is killed here leaves nothing that loads.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.storage import Storage

RESULT = "_result.json"
"""Where it is, the model is whole."""
CONFIG = "config.json"


def publish(save: Callable[[Path], object], result: Mapping[str, Any], output: str, storage: Storage) -> None:
    """Put the files that `save` writes into a local directory under `output`/model, and `result` beside it."""
    with tempfile.TemporaryDirectory(prefix="lingua-model-") as name:
        folder = Path(name)
        save(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        urls = {f"{output}/model/{path.relative_to(folder).as_posix()}": path for path in files}
        ordered = sorted(urls, key=lambda url: url.endswith(f"/model/{CONFIG}"))
        for url in reversed(ordered):
            storage.delete(url)  # of a run that was killed here
        for url in ordered:
            storage.create(url, urls[url])
    storage.write(f"{output}/{RESULT}", json.dumps(result, indent=1).encode())
