"""Checkpoints of a training run in any storage: one file each, put whole under its final name, so it is there or not.

Ray Train's own checkpoints are not used: it streams the list of them to its final name, so that a kill at that moment
leaves a list that the next start cannot read.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cluster.storage import Storage

_NAME = re.compile(r"step-(\d{8})\.pt")


class Checkpoints:
    """The states in `folder`, by step; `keep` newest ones stay."""

    def __init__(self, storage: Storage, folder: str, keep: int) -> None:
        self._storage, self._folder, self._keep = storage, folder, keep

    def steps(self) -> dict[int, int]:
        """The steps after which there is a state, oldest first, and its size in bytes."""
        found = {_NAME.fullmatch(entry.name): entry.size for entry in self._storage.entries(self._folder)}
        return {int(match[1]): size for match, size in found.items() if match}

    def load(self, step: int) -> dict[str, Any]:
        """The state after a step, on the CPU."""
        reader = self._storage.open(self._url(step), self.steps()[step])
        with io.BufferedReader(reader, 1 << 22) as file:
            return dict(torch.load(file, map_location="cpu", weights_only=True))

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Keep the state after a step, then drop the oldest."""
        with tempfile.NamedTemporaryFile(prefix="lingua-checkpoint-") as file:
            torch.save(dict(state), file)
            file.flush()
            self._storage.create(self._url(step), Path(file.name))
        for old in list(self.steps())[: -self._keep]:
            self._storage.delete(self._url(old))

    def clear(self) -> None:
        """Drop all."""
        for step in self.steps():
            self._storage.delete(self._url(step))

    def _url(self, step: int) -> str:
        return f"{self._folder}/step-{step:08d}.pt"
