"""Flags and YAML files of all jobs: flags are made from the fields of a pydantic class, so none can be forgotten."""

from __future__ import annotations

import argparse
import json
import types
import typing
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic.fields import FieldInfo

from lingua.errors import ConfigError


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
        self.add_argument("--config", metavar="FILE", default=None, help="YAML file with settings")

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help lists all settings")


def file_settings(path: str) -> dict[str, Any]:
    """What a YAML file sets. ConfigError when it cannot be read or holds no settings."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path}: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path}: must hold settings as 'key: value', not a {type(content).__name__}")
    return {str(key): value for key, value in content.items() if value is not None}


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
    return {"choices": choices} if choices else {"metavar": "VALUE"}


def is_listed(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) is tuple


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is typing.Literal:
        return [str(choice) for choice in typing.get_args(annotation)]
    if isinstance(annotation, types.UnionType):
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
