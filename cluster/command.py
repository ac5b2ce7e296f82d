"""The command line of a job: flags made from its settings, their help, and the messages about words that are not flags.

pydantic-settings names the flags and takes their values (`settings`); this says what they mean, shows the few that most
people need or all, and raises what is wrong as a ConfigError.
"""

from __future__ import annotations

import argparse
import json
import os
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lingua.errors import ConfigError
from lingua.explain import meant, public

HELP = "--help-all lists all settings"


@dataclass(frozen=True)
class Command:
    """How a job is asked.

    name         the module that is started
    usage        what must be given, and the rest in brackets
    summary      what the job does
    examples     that end its help
    common       settings that ``--help`` shows; empty: all
    groups       heading → settings under it; those that stand in none come at the end
    positional   the setting that is given without a flag
    flags        setting → its flag, where that is another word
    alternatives settings of which any one overrides the others of a lower layer
    variables    settings that are also read from the environment; None: all, and others are errors
    former       settings of earlier versions, and what to do instead
    """

    name: str
    usage: str
    summary: str
    examples: str = ""
    common: Collection[str] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    positional: str = ""
    flags: Mapping[str, str] = field(default_factory=dict)
    alternatives: Collection[str] = ()
    variables: Collection[str] | None = ("storage_options",)
    former: Mapping[str, str] = field(default_factory=dict)

    def flag(self, name: str) -> str:
        """What a setting is called on the command line."""
        return name.upper() if name == self.positional else f"--{self.flags.get(name, name).replace('_', '-')}"

    def grouped(self, names: Collection[str]) -> dict[str, tuple[str, ...]]:
        """All `names` by the heading that they stand under."""
        known = {name for group in self.groups.values() for name in group}
        rest = tuple(name for name in names if name not in known)
        return {**{title: tuple(group) for title, group in self.groups.items()}, **({"settings": rest} if rest else {})}


class FlagParser(argparse.ArgumentParser):
    """What pydantic-settings adds its flags to: says what they mean, groups them, and raises what is wrong."""

    def __init__(self, command: Command, settings: Mapping[str, FieldInfo], hidden: Collection[str]) -> None:
        self.command, self.settings, self.hidden = command, settings, hidden
        super().__init__(
            prog=f"python -m {command.name}",
            usage=f"python -m {command.name} {command.usage}",
            description=command.summary,
            epilog=self.command.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self.add_argument("-h", "--help", action=_Help, help="show the settings that most people need")
        self.add_argument("--help-all", action=_Help, help="show all settings")
        grouped = command.grouped(settings)
        made = {title: self.add_argument_group(title) for title in grouped}
        self._group = {name: made[title] for title, names in grouped.items() for name in names}

    def add_setting(self, *flags: str, **how: Any) -> None:
        """Add what pydantic-settings has made of a setting: with its meaning, its choices, and lists as JSON."""
        name = how.get("dest", flags[0])
        if name == "config":
            self.add_argument("--config", metavar="FILE", help="YAML file with settings", default=argparse.SUPPRESS)
            return
        setting, kind = self.settings[name], kind_of(self.settings[name])
        how["help"] = help_of(setting) + ("; may be repeated" if kind == list[str] else "")
        if how.get("action") == "append":
            how["action"] = _Listed if kind == list[str] else "store"
        if name == self.command.positional:
            how["metavar"] = name.upper()
        elif kind is not bool:
            choices = ",".join(_choices(setting.annotation))
            how["metavar"] = "JSON" if kind == dict[str, Any] else f"{{{choices}}}" if choices else "VALUE"
            if bool in typing.get_args(setting.annotation):  # a switch that may be given a word
                how |= {"nargs": "?", "const": "true"}
        self._group[name].add_argument(name if name == self.command.positional else self.command.flag(name), **how)

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The flags that are given. ConfigError when a word of the command line is no flag."""
        parsed, strange = self.parse_known_args(argv)
        if getattr(parsed, "config", None) == "":
            raise ConfigError(f"--config: names no file; leave it out, or give a YAML file of settings; {HELP}")
        if not strange:
            return parsed
        if (word := strange[0].partition("=")[0]).startswith("-"):
            name = word.removeprefix("--").removeprefix("no-").replace("-", "_")
            hint = f"unknown flag {word};{meant(word, self._option_string_actions)}"
            raise refusal(self.command.former, name, word, hint)
        before = list(argv[: argv.index(strange[0])])
        flag, _, value = next((one for one in reversed(before) if one.startswith("--")), "").partition("=")
        value = value or "".join(before[-1:])
        if value.startswith(("{", "[", "'{", "'[")) or "{" in value:  # the word is a piece of it, and may be secret
            split = f"the shell made several words of its value; quote it, like {flag} '{{…}}'"
            raise ConfigError(f"{flag}: {split}; {HELP}")
        if any(self.command.flag(name) in argv for name in self.hidden):
            raise ConfigError("a word belongs to no flag (not shown here); quote values for the shell, like '{…}'")
        pattern = os.path.join(os.path.dirname(word), "*" + os.path.splitext(word)[1])
        quoted = f": the shell made several words of a pattern; quote it, like --input '{pattern}'"
        why = quoted if os.path.exists(word) else f": write {self.command.usage.partition(' [')[0]}"
        raise ConfigError(f"{public(word)!r} belongs to no flag{why}; {HELP}")

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{public(message)}; {HELP}")


class _Help(argparse.Action):
    """Prints the help and ends; ``--help`` leaves out what few people need."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        assert isinstance(parser, FlagParser)
        shown = {*parser.command.common, "config", argparse.SUPPRESS}
        for action in parser._actions:
            if "--help" in self.option_strings and parser.command.common and action.dest not in shown:
                action.help = argparse.SUPPRESS
        parser.print_help()
        parser.exit()


class _Listed(argparse.Action):
    """A flag that may be repeated: its values as a JSON list, which no comma in one of them divides."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, value: Any, option: str | None = None) -> None:
        before = json.loads(getattr(namespace, self.dest, "[]"))
        setattr(namespace, self.dest, json.dumps([*before, value]))


def help_of(field: FieldInfo) -> str:
    """A field's description and its default, unless there is none or the description tells it."""
    text = (field.description or "").replace("%", "%%")
    nothing = field.is_required() or field.default_factory is not None or field.default in (None, (), "")
    if nothing or "default" in text:
        return text
    default = ("off", "on")[field.default] if isinstance(field.default, bool) else str(field.default)
    return f"{text} (default: {default.encode('unicode_escape').decode().replace('%', '%%')})"


def _choices(annotation: Any) -> Iterator[str]:
    """What a setting may be, where that is one of a few words."""
    if typing.get_origin(annotation) is typing.Literal:
        yield from map(str, typing.get_args(annotation))
    elif typing.get_origin(annotation) in (types.UnionType, typing.Union):
        for part in typing.get_args(annotation):
            yield from _choices(part)


def kind_of(field: FieldInfo) -> Any:
    """What a setting is as text has it: a switch, a list, an object of JSON, or just text."""
    parts = (field.annotation, *typing.get_args(field.annotation))
    if any(typing.get_origin(part) is tuple for part in parts) or field.annotation == dict[str, str]:
        return list[str]
    if any(isinstance(part, type) and issubclass(part, BaseModel) for part in typing.get_args(field.annotation)):
        return dict[str, Any]
    return field.annotation if field.annotation in (bool, dict[str, Any]) else str


def refusal(former: Mapping[str, str], name: str, where: str, hint: str) -> ConfigError:
    """The error where a name stands for no setting; of one that did it says what to do instead."""
    return ConfigError(f"{where} is no setting any more: {former[name]}" if name in former else f"{hint} {HELP}")
