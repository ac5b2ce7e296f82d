"""Models that installed packages carry in pieces, as packages are limited in size: joined once in the local cache."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lingua.errors import ModelError

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Pieces:
    """A GGUF file in pieces: `modules` hold ``data/<file>.part00``, ``.part01``, … in this order.

    terms   the licence that whoever uses the model agrees to
    """

    file: str
    sha256: str
    modules: tuple[str, ...]
    requirement: str
    terms: str

    def joined(self, name: str, folder: Path) -> Path:
        """The whole file in `folder`, put together on first use. Raises ModelError for a missing or wrong piece."""
        whole = folder / self.file
        if not whole.is_file():
            pieces = [self._piece(name, number) for number in range(len(self.modules))]
            folder.mkdir(parents=True, exist_ok=True)
            self._join(pieces, whole)
        return whole

    def _piece(self, name: str, number: int) -> Path:
        spec = importlib.util.find_spec(self.modules[number])
        folders = spec.submodule_search_locations if spec else None
        piece = Path(folders[0]) / "data" / f"{self.file}.part{number:02d}" if folders else None
        if piece is None or not piece.is_file():
            raise ModelError(f"model {name!r} is carried by a package: pip install {self.requirement} ({self.terms})")
        return piece

    def _join(self, pieces: list[Path], whole: Path) -> None:
        digest = hashlib.sha256()
        handle, draft = tempfile.mkstemp(prefix=".joining-", dir=whole.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                for piece in pieces:
                    with piece.open("rb") as stream:
                        while block := stream.read(_BLOCK):
                            digest.update(block)
                            out.write(block)
            if digest.hexdigest() != self.sha256:
                raise ModelError(f"{self.file}: its pieces do not add up to the file; install {self.requirement} again")
            Path(draft).replace(whole)
        finally:
            Path(draft).unlink(missing_ok=True)
