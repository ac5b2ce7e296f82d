"""Flags and YAML files of all jobs: flags are made from the fields of a pydantic class, so none can be forgotten."""

from __future__ import annotations

import argparse
import json
import os
import re
import types
import typing
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic.fields import FieldInfo

from lingua.errors import ConfigError
from lingua.explain import meant, public

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
        parsed, strange = self.parse_known_args([str(word) for word in argv])
        if parsed.config == "":
            raise ConfigError(f"--config: names no file; leave it out, or give a YAML file of settings; {HELP}")
        if not strange:
            return vars(parsed)
        word = strange[0].partition("=")[0]
        if not word.startswith("-"):
            quoted = f": the shell made several words of a pattern; quote it, like --input '{_pattern_of(word)}'"
            why = quoted if os.path.exists(word) else f": write {self._needed}"
            if "--storage-options" in argv or "--webhook" in argv:  # the word may be a piece of its value
                raise ConfigError("a word belongs to no flag (not shown here); quote values for the shell, like '{…}'")
            raise ConfigError(f"{public(word)!r} belongs to no flag{why}; {HELP}")
        raise ConfigError(f"unknown flag {word};{meant(word, self._option_string_actions)} {HELP}")

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{public(message)}; {HELP}")


def _pattern_of(path: str) -> str:
    return os.path.join(os.path.dirname(path), "*" + os.path.splitext(path)[1])


def file_settings(path: str, known: Collection[str]) -> dict[str, Any]:
    """What a YAML file sets. ConfigError when it cannot be read, holds no settings, or one that is not known."""
    try:
        content = _Loader(Path(path).read_text(encoding="utf-8-sig")).get_single_data()
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}; give a YAML file of settings") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--config {path}: is not UTF-8 text; give a YAML file of settings") from None
    except RecursionError:
        raise ConfigError(f"--config {path}: is nested too deeply for settings") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path}: {_where(error)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path}: must hold settings as 'key: value', not a {type(content).__name__}")
    settings = {str(key): value for key, value in content.items() if value is not None}
    if unknown := sorted(settings.keys() - set(known)):
        names = ", ".join(repr(public(name[:50])) for name in unknown[:5])
        raise ConfigError(f"--config {path}: unknown setting {names};{meant(unknown[0], known)} {HELP}")
    return settings


class _Loader(yaml.SafeLoader):
    """Plain values only; a key stands once, and aliases may not make more of a file than `MOST_NODES` values."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._nodes = 0
        self._weights: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        alias, before = self.check_event(yaml.AliasEvent), self._nodes
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        node: Any = super().compose_node(parent, index)
        self._nodes += self._weights.get(id(node), MOST_NODES) if alias else 1  # of itself it would be endless
        if not alias:
            self._weights[id(node)] = self._nodes - before
        if self._nodes > MOST_NODES:
            raise yaml.composer.ComposerError(None, None, f"more than {MOST_NODES:,} values, aliases counted out", mark)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        plain = [key for key, _ in node.value if isinstance(key.value, str)]
        for key in plain:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, "a key that stands there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


MOST_NODES = 10_000
"""Values in a file of settings."""


def _where(error: Exception) -> str:
    """Line, column and kind of what is wrong with a YAML file; nothing of what stands there, which may be secret."""
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = str(getattr(error, "problem", None) or "a value that cannot be read")
    return f"{place}{_QUOTED.sub('…', problem)}; it must hold settings as 'key: value'"


_QUOTED = re.compile(r"(?<!\w)(['\"])(?!<)(?!.{1,2}\1).*\1", re.DOTALL)
"""What YAML's complaints repeat of a file, but for single signs and the names of its own tokens."""


def help_of(field: FieldInfo) -> str:
    """A field's description and its default, unless there is none or the description tells it."""
    text = (field.description or "").replace("%", "%%")
    nothing = field.is_required() or field.default_factory is not None or field.default in (None, (), "")
    if nothing or "default" in text:
        return text
    default = ("off", "on")[field.default] if isinstance(field.default, bool) else str(field.default)
    return f"{text} (default: {default.encode('unicode_escape').decode().replace('%', '%%')})"


def kind_of(field: FieldInfo, flag: str = "--storage-options") -> dict[str, Any]:
    """How the flag of this name, for this field, is read."""
    if field.annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if is_listed(field):
        return {"action": "append", "metavar": "VALUE"}
    if field.annotation == dict[str, Any]:
        return {"metavar": "JSON", "type": partial(json_object, name=flag, secret="storage" in flag)}
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


def json_object(text: str, name: str = "--storage-options", *, secret: bool = True) -> dict[str, Any]:
    """An object from the JSON of a flag or variable. ConfigError when it is none, which repeats nothing `secret`."""
    fault = f"; this is {'another kind of value' if secret else public(text[:100])}"
    try:
        if isinstance(value := json.loads(text), dict):
            return value
    except RecursionError:
        fault = "; this is nested too deeply"
    except json.JSONDecodeError as error:
        fault = f"; after character {error.pos}: {error.msg}"
    raise ConfigError(
        f'{name} must be a JSON object like {{"a": "b"}}{" (its value is not shown here)" if secret else ""}{fault}'
    )
