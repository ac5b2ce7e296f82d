"""`CompressionConfig`: the settings that all methods read plus the chosen method's, validated before any model loads.

They are written flat, whichever of the two reads them. A setting that is given must be read by the chosen method;
defaults need not be. Results depend on what the method reads, and a run is known by that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from lingua.errors import ConfigError, UnreadError
from lingua.explain import either, explain
from lingua.methods import METHODS
from lingua.shared import MethodSettings, SharedSettings

ALGORITHM_VERSION = 19
"""Part of every digest: raised when equal settings begin to give other results, so that old ones are not reused."""
DEFAULT_RATE = 0.5
_BUDGETS = ("rate", "target_token", "keep_threshold")
Preset = Literal["paper", "security"]
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"method": "llmlingua", "unit": "token", "instruction_rate": 0.85, "question_rate": 0.9},
    "security": {"method": "llmlingua2", "keep_threshold": 0.5},
}
"""Settings that go together, less what is the default: as in the LLMLingua paper; as in SecurityLingua (what an
instruction really asks for)."""
FORMER = {
    "reuse_keys": "keys and values are always computed anew",
    "weights": "give a smaller model, or dtype bfloat16",
    "compile": "the decoder runs as it is",
    "drop_consecutive": "a forced string that repeats is kept once where nothing kept parts the repeats",
    "language": "sentences are found by rules for all languages",
    "question_aware": "give focus_model: ignore",
    "condition_in_question": "give rank_method: longllmlingua, longllmlingua_before or llmlingua",
    "rank_model": "give rank_method: embedding:MODEL or reranker:MODEL",
    "use_sentence_level_filter": 'give sentence_filter, e.g. {"budget": "*1.5"}',
    "sentence_budget": 'give sentence_filter: {"budget": "*1.5"}',
    "keep_first_sentence": 'give sentence_filter: {"first": 1}',
    "keep_last_sentence": 'give sentence_filter: {"last": 1}',
    "keep_sentence_number": 'give sentence_filter: {"best": 1}',
    "token_to_word": "give aggregate",
    "window_tokens": "an encoder reads 510 tokens at once, or what it can",
    "use_context_level_filter": "give context_budget",
    "keep_split": "give force_tokens: a line break",
    "keep_code_blocks": "give keep_markdown: code",
    "keep_structure": "give keep_markdown: structure",
    "keep_newest_user": 'give message_rates: {"newest_user": "compress", …}',
    "older_turns": "give message_rates, or target_token",
}
"""Settings of earlier versions, and what to give instead."""


def fields() -> dict[str, FieldInfo]:
    """All settings by their flat names; of one that several methods read, as the first of them has it."""
    own = {name: field for method in reversed(METHODS.values()) for name, field in method.settings.model_fields.items()}
    shared = {name: field for name, field in CompressionConfig.model_fields.items() if name != "own"}
    return {**shared, **{name: own[name] for name in READERS}}


class CompressionConfig(SharedSettings):
    """All settings of a compression. Unknown or invalid settings raise ConfigError, naming the setting."""

    preset: Preset | None = Field(None, description="settings that go together; any given besides it prevails")

    def __init__(self, **settings: Any) -> None:
        settings = _complete({name: value for name, value in settings.items() if value is not None})
        method = str(settings["method"])
        own = METHODS[method].settings if method in METHODS else MethodSettings
        read = {name: value for name, value in settings.items() if name in own.model_fields}
        rest = {name: value for name, value in settings.items() if name not in read}
        _require_read(rest, method)
        try:
            super().__init__(own=settings.get("own") or own(**read), **rest)
        except ValidationError as error:
            raise ConfigError(explain(error, fields())) from None

    def flat(self) -> dict[str, Any]:
        """All settings that the method reads, by their flat names, as JSON values."""
        return {**self.model_dump(mode="json", exclude={"own"}), **self.own.model_dump(mode="json")}

    def given(self) -> dict[str, Any]:
        """The settings that were given, by their flat names."""
        shared = {name: getattr(self, name) for name in self.model_fields_set - {"own"}}
        return {**shared, **{name: getattr(self.own, name) for name in self.own.model_fields_set}}

    def without_defaults(self) -> dict[str, Any]:
        """What results depend on, as JSON values: the method, and what it reads that is not at its default."""
        return without_defaults(self.flat())

    def digest(self) -> str:
        """Hexadecimal digest of what results depend on, equal for equal settings on every machine."""
        canonical = json.dumps([ALGORITHM_VERSION, self.without_defaults()], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


READERS: dict[str, tuple[str, ...]] = {}
"""Setting → the methods that read it, of those settings that not all of them read."""
for _name, _method in METHODS.items():
    for _setting in _method.settings.model_fields:
        READERS[_setting] = (*READERS.get(_setting, ()), _name)


def default_of(name: str, method: str) -> Any:
    """What a setting is where it is not given, as a JSON value; None for a name that is not known."""
    own = METHODS[method].settings.model_fields if method in METHODS else {}
    field = own.get(name) or CompressionConfig.model_fields.get(name)
    return None if field is None or field.is_required() else json.loads(json.dumps(field.default))


def readable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` without those that their method does not read."""
    method = str(settings["method"])
    return {name: value for name, value in settings.items() if method in READERS.get(name, (method,))}


def without_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of settings as JSON values, those that results depend on: `method`, and what it reads that is not at its default.

    So a setting that a later version adds changes nothing where it is not given. Names that this version does not know
    are kept.
    """
    method = str(settings["method"])
    return {
        name: value
        for name, value in readable(settings).items()
        if name == "method" or (name != "preset" and value is not None and value != default_of(name, method))
    }


def _complete(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with what their preset gives, with a method, and with a rate where nothing says how much to keep."""
    preset = PRESETS.get(str(settings.get("preset")), {})
    method = str(settings.get("method") or preset.get("method") or "evidence")
    read = readable({**preset, "method": method})
    if preset and read.keys() == {"method"} and method != preset["method"]:
        raise ConfigError(
            f"preset {settings['preset']} is of method {preset['method']}, and method {method} reads nothing of it; "
            "give one of them"
        )
    settings = {**read, **settings}
    given = [name for name in _BUDGETS if name in settings]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} exclude each other; give one of them")
    return settings if given else {**settings, "rate": DEFAULT_RATE}


def _require_read(settings: Mapping[str, Any], method: str) -> None:
    """ConfigError where a setting is none any more, or is read by other methods alone."""
    if former := next((name for name in settings if name in FORMER), None):
        raise ConfigError(f"{former} is no setting any more: {FORMER[former]}")
    unread = {}
    for name in sorted(settings.keys() & READERS):
        readers = READERS[name]
        methods = f"method{'s' if len(readers) > 1 else ''} {either(readers, 'and')}"
        unread[name] = f"is read by {methods}, not by {method}: leave it out, or choose method {either(readers)}"
    if unread and method in METHODS:
        raise UnreadError(unread)
