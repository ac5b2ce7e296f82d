"""A model in pieces is joined once, and only if the pieces are the right ones."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from lingua.errors import ModelError
from lingua.models.source import SplitFile, resolve

CONTENT = (b"first half, ", b"second half")


@pytest.fixture
def pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SplitFile:
    """Two installed packages with a piece each."""
    for number, content in enumerate(CONTENT):
        folder = tmp_path / f"lingua_test_piece{number}" / "data"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        (folder / f"model.gguf.part{number:02d}").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    modules = ("lingua_test_piece0", "lingua_test_piece1")
    return SplitFile(
        "model.gguf", hashlib.sha256(b"".join(CONTENT)).hexdigest(), modules, "some-model==1", "terms apply"
    )


def test_pieces_are_joined_in_their_order_once(pieces: SplitFile, tmp_path: Path) -> None:
    whole = pieces.joined("mine", tmp_path / "cache")
    assert whole.read_bytes() == b"first half, second half"
    before = whole.stat().st_mtime_ns
    assert pieces.joined("mine", tmp_path / "cache").stat().st_mtime_ns == before


def test_wrong_pieces_leave_nothing_behind(pieces: SplitFile, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="do not add up"):
        replace(pieces, sha256="0" * 64).joined("mine", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_piece_says_what_to_install_and_whose_terms_apply(pieces: SplitFile, tmp_path: Path) -> None:
    missing = replace(pieces, modules=(*pieces.modules, "lingua_test_no_such_module"))
    with pytest.raises(ModelError, match=r"pip install some-model==1 \(terms apply\)"):
        missing.joined("mine", tmp_path / "cache")


def test_an_alias_stands_for_the_joined_file(
    pieces: SplitFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGUA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("lingua.models.source.EMBEDDED_PIECES", {"tiny-in-pieces": pieces})
    source = resolve("tiny-in-pieces")
    assert (source.name, source.gguf, source.location) == ("tiny-in-pieces", "model.gguf", str(tmp_path / "cache"))
