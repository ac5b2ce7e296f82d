"""Settings of a training job from flags and a YAML file: flags over file over defaults, unknown keys are errors.

Flags are made from the fields of a pydantic class, so none can be forgotten and ``--help`` is always whole. Credentials
of the storage may also stand in the variable LINGUA_STORAGE_OPTIONS, as for the other jobs: command lines can be seen.
"""

from __future__ import annotations

import argparse
import os
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cluster.settings import json_object
from lingua.errors import ConfigError

VARIABLE = "LINGUA_STORAGE_OPTIONS"


@dataclass(frozen=True, slots=True)
class Command:
    """How a job presents itself. `groups`: titles of ``--help`` → the keys under each, together all of `settings`."""

    name: str
    usage: str
    description: str
    examples: str
    groups: Mapping[str, Sequence[str]]
    settings: type[BaseModel]

    def gather(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The merged settings, not validated yet. ConfigError for unknown keys and unreadable files; help exits."""
        flags = vars(self.parser().parse_args(list(argv)))
        file = flags.pop("config")
        merged = {**_credentials(os.environ if environment is None else environment), **self._file(file), **flags}
        missing = [key for key, field in self._fields().items() if field.is_required() and key not in merged]
        if missing:
            raise ConfigError(f"missing setting: {', '.join(missing)}; give --{missing[0]}, or --help for all settings")
        return merged

    def parser(self) -> argparse.ArgumentParser:
        """Flags for all settings; those that are not given are absent from the result."""
        parser = _Parser(
            prog=f"python -m {self.name}",
            usage=f"python -m {self.name} {self.usage}",
            description=self.description,
            epilog=self.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )
        parser.add_argument("--config", metavar="FILE", default=None, help="YAML file with settings")
        fields = self._fields()
        for title, keys in self.groups.items():
            group = parser.add_argument_group(title)
            for key in keys:
                group.add_argument(
                    f"--{key.replace('_', '-')}", dest=key, help=_help(fields[key]), **_kind(fields[key])
                )
        return parser

    def _fields(self) -> dict[str, FieldInfo]:
        return {field.alias or name: field for name, field in self.settings.model_fields.items()}

    def _file(self, path: str | None) -> dict[str, Any]:
        if path is None:
            return {}
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise ConfigError(f"--config {path}: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise ConfigError(f"--config {path}: must hold settings as 'key: value', not a {type(content).__name__}")
        unknown = sorted(str(key) for key in content if key not in self._fields())
        if unknown:
            names = ", ".join(map(repr, unknown))
            raise ConfigError(f"--config {path}: unknown setting {names}; --help lists all settings")
        return {key: value for key, value in content.items() if value is not None}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help lists all settings")


def _credentials(environment: Mapping[str, str]) -> dict[str, Any]:
    text = environment.get(VARIABLE)
    return {} if text is None else {"storage_options": json_object(text)}


def _help(field: FieldInfo) -> str:
    text = (field.description or "").replace("%", "%%")
    shown = not field.is_required() and field.default not in (None, (), "") and field.default_factory is None
    return f"{text} (default: {str(field.default).encode('unicode_escape').decode()})" if shown else text


def _kind(field: FieldInfo) -> dict[str, Any]:
    if field.annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(field.annotation) is tuple:
        return {"action": "append", "metavar": "VALUE"}
    if field.annotation == dict[str, Any]:
        return {"metavar": "JSON", "type": json_object}
    choices = _choices(field.annotation)
    return {"choices": choices} if choices else {"metavar": "VALUE"}


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is typing.Literal:
        return [str(choice) for choice in typing.get_args(annotation)]
    if isinstance(annotation, types.UnionType):
        return [choice for part in typing.get_args(annotation) for choice in _choices(part)]
    return []
