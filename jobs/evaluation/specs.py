"""What is compared and who is asked, as written by the user: ``NAME: [BASE] key=value …`` → `Candidate`, `TargetSpec`.

A candidate is how the context of a prompt is made smaller: settings of a compression, the public library, or one of
the references. In a file the same may be written as a mapping: ``{sentence: {unit: sentence}, peer: }``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import yaml

from cluster.placement import device_of_a_worker
from jobs.evaluation.rows import REFERENCES
from jobs.generation import Writer
from jobs.peer import QUESTION_AWARE
from lingua.config import CompressionConfig
from lingua.engine.score import Needs
from lingua.errors import ConfigError

Kind = Literal["full", "nothing", "config", "peer", "sentences"]

BASES: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {"preset": "paper"},
    "aware": {"method": "longllmlingua"},
    "selective": {"method": "selective", "unit": "phrase"},
    "random": {"method": "random"},
    "truncate": {"method": "truncate"},
    "lead": {"method": "lead"},
    "rarity": {"method": "rarity"},
}
"""Candidates by name: our defaults, the paper's recipe, question-aware, Selective-Context, and four without a model."""
PEERS: dict[str, dict[str, Any]] = {"peer": {}, "peer-aware": QUESTION_AWARE}
"""The public `llmlingua`, as called by default, and as its authors recommend with a question."""
QUESTION = "rank_method"
"""A peer with this option is told the question; by it a ranker is named that chooses whole sentences."""
SENTENCES = "sentences"
"""The base of whole sentences that a ranker finds nearest to the question."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SIZES = ("rate", "target_token", "keep_threshold")
_WHOLE = {"instruction_rate": 1.0, "question_rate": 1.0}
"""Only the context is compressed and counted, whatever a candidate's settings say."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to a smaller context.

    settings   of `CompressionConfig`, of the peer's `compress_prompt`, or what ranks sentences; never a size, which the
               evaluation gives
    model      that compresses, where it is not the evaluation's
    """

    name: str
    kind: Kind
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None

    @property
    def needs(self) -> Needs:
        if self.kind == "config":
            return self.config().own.needs
        return "causal" if self.kind == "peer" else "nothing"

    def config(self) -> CompressionConfig:
        """The settings of a compression; its size is given with each prompt."""
        return CompressionConfig(**{**self.settings, **_WHOLE})

    def identity(self) -> dict[str, Any]:
        """What its results depend on, as JSON values."""
        settings = self.config().without_defaults() if self.kind == "config" else dict(self.settings)
        return {"kind": self.kind, "settings": settings, "model": self.model}


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """Who is asked: `settings` of a model here (``model``, ``device``, ``dtype``) or of an endpoint (``url``, …)."""

    name: str  # as it stands in the results
    settings: Mapping[str, Any]

    @property
    def remote(self) -> bool:
        return "url" in self.settings

    @property
    def needs(self) -> Needs:
        """What it computes with, here."""
        return "nothing" if self.remote else "causal"


ALWAYS = (Candidate("full", "full"), Candidate("nothing", "nothing"))
"""The references."""


@contextmanager
def told_of(kind: str, name: str) -> Iterator[None]:
    """What is wrong inside is told with the candidate or target that it is wrong with."""
    try:
        if not NAME.fullmatch(name):
            raise ConfigError("a name is made of letters, digits, - and _")
        yield
    except ConfigError as error:
        raise ConfigError(f"{kind} {name!r}: {error}") from None


def parse_candidate(entry: Any, name: str | None = None) -> Candidate:
    """``peer``, ``sentence: method=llmlingua unit=sentence``, ``long: peer context_budget=*1.5``; or a mapping.

    Settings stand over a base, by default the one of the same name. ConfigError with the name in it.
    """
    if isinstance(entry, Candidate):
        return entry
    name, words, settings = _read("candidate", entry, name)
    if name in REFERENCES:
        raise ConfigError(f"candidate {name!r} is a reference, which is always there; leave it out")
    with told_of("candidate", name):
        if sizes := [key for key in _SIZES if key in settings]:
            raise ConfigError(f"remove {sizes[0]}; all candidates are compared at the sizes of --rate and --tokens")
        base = words[0] if words else name if name in (*BASES, *PEERS, SENTENCES) else "default"
        if base in PEERS:
            return Candidate(name, "peer", {**PEERS[base], **settings})
        if base == SENTENCES:
            return Candidate(name, "sentences", _ranking(settings))
        if base not in BASES:
            raise ConfigError(f"there is no base {base!r}; there are {', '.join((*BASES, *PEERS, SENTENCES))}")
        own = {**BASES[base], **settings}
        model = own.pop("model", None)
        candidate = Candidate(name, "config", own, None if model is None else str(model))
        candidate.config()
        return candidate


def _ranking(settings: Mapping[str, Any]) -> dict[str, Any]:
    ranking = {QUESTION: "embedding", **settings}
    if len(ranking) > 1:
        raise ConfigError(f"sentences are chosen by {QUESTION} alone; remove {[*ranking][1]}")
    CompressionConfig(method="longllmlingua", **ranking)
    if "llmlingua" in str(ranking[QUESTION]).partition(":")[0]:
        raise ConfigError("sentences are ranked by bm25, embedding, embedding:MODEL or reranker:MODEL")
    return ranking


def parse_target(entry: Any, name: str | None = None) -> TargetSpec:
    """``gemma3-270m``, ``name: model=DIR dtype=bfloat16``, ``gpt: url=https://… model=… mode=chat``; or a mapping.

    ConfigError with the name in it.
    """
    if isinstance(entry, TargetSpec):
        return entry
    words = list[str]()
    if isinstance(entry, Mapping) or "=" in str(entry):
        name, words, settings = _read("target", entry, name)
    else:  # a model by its path, hub id or alias, whose last part names it
        settings = {"model": str(entry or name)}
        name = name or re.sub(r"[^A-Za-z0-9_-]+", "-", str(entry).rstrip("/").rpartition("/")[2]).strip("-") or "target"
    with told_of("target", name):
        if words:
            raise ConfigError(f"write key=value, not {words[0]!r}")
        if "model" not in settings:
            raise ConfigError("which model? write model=NAME")
        known = {"model", "device", "dtype"}
        if "url" not in settings and (unknown := sorted(settings.keys() - known)):
            raise ConfigError(f"unknown setting {unknown[0]!r}; there are {', '.join(sorted(known))}, url")
        device = str(settings.get("device", "auto"))
        try:
            device_of_a_worker(device)
        except ValueError as error:
            raise ConfigError(f"device = {device!r}: {error}") from None
    return TargetSpec(name, settings)


def require_distinct(kind: str, names: list[str]) -> None:
    """ConfigError when a name stands there twice."""
    if (twice := next((name for name in names if names.count(name) > 1), None)) is not None:
        raise ConfigError(f"two {kind}s are called {twice!r}; rename one")


def _read(kind: str, entry: Any, name: str | None) -> tuple[str, list[str], dict[str, Any]]:
    """Name, words and settings of a mapping in a file, or of ``NAME: word key=value …``, whose values are YAML."""
    if isinstance(entry, Mapping):
        settings = dict(entry)
        base = settings.pop("base", None)
        return name or str(settings.pop("name", "")), [] if base is None else [str(base)], settings
    text = str(entry) if name is None else f"{name}: {entry or ''}"
    name, _, rest = text.partition(":") if re.match(r"\s*[\w-]+\s*:(\s|$)", text) else (text, "", "")
    try:
        parts = shlex.split(rest)
        pairs = [part.partition("=") for part in parts if "=" in part]
        settings = {key: yaml.safe_load(value) if _plain(value) else value for key, _, value in pairs}
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"--{kind} {text!r}: {' '.join(str(error).split())}") from None
    return name.strip(), [part for part in parts if "=" not in part], settings


def _plain(value: str) -> bool:
    """Whether YAML may read a value: ``*2`` would be an alias there, a URL stays as it is."""
    return not value.startswith(("*", "&", "!", "%", "@", "`", "+")) and "://" not in value


class Target(Writer, Protocol):
    """A language model that reads prompts, compressed or not, and continues them greedily.

    scores   whether `nll` can be had; chat endpoints give no probabilities of a given text
    """

    name: str  # as it stands in the results

    @property
    def scores(self) -> bool: ...

    def nll(self, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        """−ln p(answer | prompt) of each pair, in nats, summed over the answer's tokens."""
        ...
