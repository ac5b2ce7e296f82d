"""The published methods, one file each, by the name that `method:` takes, and which settings each of them reads.

Beside its program a method's file has `READS`: the settings that not all methods read, each with the condition on other
settings under which it does (`""`: always). What stands in none of them is read by all: budgets, units, what is kept
whatever the method. A setting that is given and not read is an error, and no part of what a result depends on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lingua.budget.draft import Draft
from lingua.config import CompressionConfig
from lingua.engine.score import Needs, Program
from lingua.methods import baselines, evidence, llmlingua, llmlingua2, longllmlingua, selective
from lingua.models.source import EMBEDDER, ModelSource, resolve

Reads = Mapping[str, str]
"""Setting → the condition under which it is read: ``name``, or ``name=value``, or several with ``or`` between them."""

_LOADING: Reads = {"compile": ""}
_ALL: Reads = {"drop_consecutive": "force_tokens or keep_split"}
"""Conditions on settings that all methods read."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method's program, what answers its scores: a causal model, an encoder, or nothing (it asks for none), and what
    it reads.

    `sentences`: an encoder of sentences, which is not the compressor's model and may be absent.
    """

    program: Callable[[Draft], Program[None]]
    needs: Needs
    reads: Reads


METHODS: dict[str, Method] = {
    "evidence": Method(evidence.evidence, "sentences", evidence.READS),
    "llmlingua": Method(llmlingua.llmlingua, "causal", {**llmlingua.READS, **_LOADING}),
    "llmlingua2": Method(llmlingua2.llmlingua2, "encoder", llmlingua2.READS),
    "longllmlingua": Method(longllmlingua.longllmlingua, "causal", {**longllmlingua.READS, **_LOADING}),
    "selective": Method(selective.selective, "causal", {**selective.READS, **_LOADING}),
    **{name: Method(program, "nothing", baselines.READS[name]) for name, program in baselines.BASELINES.items()},
}
READERS: dict[str, tuple[str, ...]] = {
    setting: tuple(name for name, method in METHODS.items() if setting in method.reads)
    for setting in sorted({setting for method in METHODS.values() for setting in method.reads})
}
"""Setting → the methods that read it, of those settings that not all of them read."""
GONE: Mapping[str, Any] = {"reuse_keys": False, "weights": "full", "older_turns": 1.0}
"""Settings that earlier versions had, at their defaults: outputs that were begun with them go on."""
DEFAULTS: dict[str, Any] = {
    **GONE,
    **{name: json.loads(json.dumps(field.default)) for name, field in CompressionConfig.model_fields.items()},
}
"""What each setting is where it is not given, as a JSON value."""


def needs_of(config: CompressionConfig) -> Needs:
    """What answers a method's scores under these settings."""
    needs = METHODS[config.method].needs
    return "nothing" if needs == "sentences" and config.focus is None else needs


def computes(config: CompressionConfig) -> bool:
    """Whether the compressor's own model is asked; otherwise only its tokenizer is."""
    return needs_of(config) in ("causal", "encoder")


def second_model(config: CompressionConfig) -> str | None:
    """The model that results depend on besides the compressor's: it ranks context strings, or reads sentences."""
    if config.method != "longllmlingua" or config.rank_method not in ("embedding", "reranker"):
        return config.focus
    return config.rank_model or EMBEDDER


def models_digest(source: ModelSource, config: CompressionConfig, *, whole: bool = False) -> str:
    """Digest of all models that results depend on. Raises ModelError when one of them cannot be found.

    Of a model that is not asked only the tokenizer counts. `whole`: all of its files, as earlier versions had it.
    """
    first = source.digest if whole or computes(config) else source.tokenizer_digest
    second = second_model(config)
    if second is None:
        return first
    both = f"{first}\0{resolve(second).digest}"
    return hashlib.blake2b(both.encode(), digest_size=16).hexdigest()


def complaints(settings: Mapping[str, Any], given: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Of the settings that were `given`, each that is not read under all `settings`, and what to do."""
    method = str(settings["method"])
    for name in given:
        if name in READERS and method not in READERS[name]:
            readers = READERS[name]
            methods = f"method{'s' if len(readers) > 1 else ''} {_either(readers, 'and')}"
            yield name, f"is read by {methods}, not by {method}: leave it out, or choose method {_either(readers)}"
        elif not _holds(condition := _condition(method, name), settings):
            yield name, f"is read only with {condition}: give that too, or leave {name} out"


def readable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` without those that would not be read."""
    values = {**DEFAULTS, **settings}
    unread = dict(complaints(values, list(settings)))
    return {name: value for name, value in settings.items() if name not in unread}


def decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of settings as JSON values, those that results depend on: `method`, and what it reads that is not at its default.

    So a setting that a later version adds changes nothing where it is not given. Names that this version does not know
    are kept.
    """
    method, values = str(settings["method"]), {**DEFAULTS, **settings}
    return {name: value for name, value in settings.items() if name == "method" or _decides(method, name, values)}


def _decides(method: str, name: str, values: Mapping[str, Any]) -> bool:
    if name == "preset" or (name in DEFAULTS and values[name] == DEFAULTS[name]):
        return False
    return method in READERS.get(name, (method,)) and _holds(_condition(method, name), values)


def _condition(method: str, name: str) -> str:
    own = METHODS[method].reads if method in METHODS else {}
    return own.get(name, _ALL.get(name, ""))


def _holds(condition: str, settings: Mapping[str, Any]) -> bool:
    alternatives = (one.partition("=") for one in condition.split(" or ") if one)
    met = [settings[name] == value if equals else bool(settings[name]) for name, equals, value in alternatives]
    return not condition or any(met)


def _either(names: tuple[str, ...], word: str = "or") -> str:
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
