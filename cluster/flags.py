"""Flags and YAML files of all jobs: flags are made from the fields of a pydantic class, so none can be forgotten."""

from __future__ import annotations

import argparse
import json
import os
import types
import typing
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic.fields import FieldInfo

from lingua.errors import ConfigError
from lingua.explain import meant

HELP = "--help lists all settings"


class FlagParser(argparse.ArgumentParser):
    """A parser of settings: those that are not given are absent from the result; what is wrong is a ConfigError."""

    def __init__(self, name: str, usage: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=f"python -m {name}",
            usage=f"python -m {name} {usage}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )
        self._needed = usage.partition(" [")[0]
        self.add_argument("--config", metavar="FILE", default=None, help="YAML file with settings")

    def parse(self, argv: Sequence[str]) -> dict[str, Any]:
        """The flags that are given, by their keys. ConfigError when a word of the command line is no flag."""
        parsed, strange = self.parse_known_args(list(argv))
        if not strange:
            return vars(parsed)
        word = strange[0].partition("=")[0]
        if not word.startswith("-"):
            quoted = f": the shell made several words of a pattern; quote it, like --input '{_pattern_of(word)}'"
            why = quoted if os.path.exists(word) else f": write {self._needed}"
            raise ConfigError(f"{word!r} belongs to no flag{why}; {HELP}")
        raise ConfigError(f"unknown flag {word};{meant(word, self._option_string_actions)} {HELP}")

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {HELP}")


def _pattern_of(path: str) -> str:
    return os.path.join(os.path.dirname(path), "*" + os.path.splitext(path)[1])


def file_settings(path: str, known: Collection[str]) -> dict[str, Any]:
    """What a YAML file sets. ConfigError when it cannot be read, holds no settings, or one that is not known."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path}: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path}: must hold settings as 'key: value', not a {type(content).__name__}")
    settings = {str(key): value for key, value in content.items() if value is not None}
    if unknown := sorted(settings.keys() - set(known)):
        names = ", ".join(map(repr, unknown))
        raise ConfigError(f"--config {path}: unknown setting {names};{meant(unknown[0], known)} {HELP}")
    return settings


def help_of(field: FieldInfo) -> str:
    """A field's description and its default, unless there is none or the description tells it."""
    text = (field.description or "").replace("%", "%%")
    nothing = field.is_required() or field.default_factory is not None or field.default in (None, (), "")
    if nothing or "default" in text:
        return text
    default = ("off", "on")[field.default] if isinstance(field.default, bool) else str(field.default)
    return f"{text} (default: {default.encode('unicode_escape').decode().replace('%', '%%')})"


def kind_of(field: FieldInfo) -> dict[str, Any]:
    """How a flag for this field is read."""
    if field.annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if is_listed(field):
        return {"action": "append", "metavar": "VALUE"}
    if field.annotation == dict[str, Any]:
        return {"metavar": "JSON", "type": json_object}
    choices = _choices(field.annotation)
    return {"metavar": f"{{{','.join(choices)}}}" if choices else "VALUE"}


def is_listed(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) is tuple


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is typing.Literal:
        return [str(choice) for choice in typing.get_args(annotation)]
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return [choice for part in typing.get_args(annotation) for choice in _choices(part)]
    return []


def json_object(text: str) -> dict[str, Any]:
    """Storage options from a flag. ConfigError, which does not repeat them, when they are no JSON object."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ConfigError("--storage-options must be a JSON object (its value is not shown here)")
    return value
