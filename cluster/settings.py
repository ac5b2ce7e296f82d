"""The settings of all jobs: flags override the file of ``--config``, which overrides the environment and the defaults.

pydantic-settings reads flags and variables, and the job's own model validates what all say; nothing is evaluated. Flags
are made from the fields of the model, so none can be forgotten. Text is left as it is but for lists and objects, which
may be written as JSON; one string counts as a list of one. What is wrong is a ConfigError that says where it was given.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, CliPositionalArg, CliSettingsSource, EnvSettingsSource

from cluster.command import Command, FlagParser, kind_of, refusal
from lingua.errors import ConfigError, UnreadError
from lingua.explain import explain, meant, public

PREFIX = "LINGUA_"
NO_SETTINGS = {"LINGUA_CACHE"}
"""Variables of ours that are read elsewhere: where converted models are kept."""
MOST_NODES = 10_000
"""Values in a file of settings."""
_EXAMPLES = {"message_rates": '{"user": 0.5, "tool": "keep"}', "json_rules": '{"items[].text": 0.5, "id": "keep"}'}
_QUOTED = re.compile(r"(?<!\w)(['\"])(?!<)(?!.{1,2}\1).*\1", re.DOTALL)
"""What YAML's complaints repeat of a file, but for single signs and the names of its own tokens."""


class Settings(BaseModel):
    """What a job can be told. Unknown or invalid settings raise ConfigError, naming the setting.

    command   how the job is asked
    hidden    settings whose values are never repeated, and what is said of them instead
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    command: ClassVar[Command]
    hidden: ClassVar[Mapping[str, str]] = {
        "storage_options": "storage_options must be a JSON object of options for fsspec (its value is not shown here)"
    }

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            faulty = {name for fault in error.errors(include_url=False) for name in fault["loc"]}
            secret = [complaint for name, complaint in self.hidden.items() if name in faulty]
            said = explain(error, self.settings()).replace("inputs =", "input =")
            raise ConfigError(secret[0] if secret else said) from None

    @classmethod
    def settings(cls) -> dict[str, FieldInfo]:
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @classmethod
    def load(cls, argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Self:
        """The settings of a command line, by default this process's. ConfigError says what is wrong.

        ``--help`` prints and exits.
        """
        words = sys.argv[1:] if argv is None else argv
        given, origins = _gather(cls, words, os.environ if environment is None else environment)
        try:
            return cls(**given)
        except UnreadError as error:
            told = [f"{origins.get(name, name)} {complaint}" for name, complaint in error.complaints.items()]
            raise ConfigError("; ".join(told)) from None
        except ConfigError as error:  # it calls a setting by its name, which is not that of a variable
            called = {name: origin for name, origin in origins.items() if origin.startswith(PREFIX)}
            said = re.sub(r"(?:^|(?<=; ))\w+(?= = )", lambda name: called.get(name[0], name[0]), str(error))
            raise ConfigError(said) from None


def _gather(
    model: type[Settings], argv: Sequence[str], environment: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The merged settings, and what each is called where it was given (a flag, a variable, a file's key)."""
    command, form = model.command, _form(model)
    flags = _Flags(form, FlagParser(command, model.settings(), model.hidden), argv)()
    path = flags.pop("config", None)
    variables = _Environment(form, _variables(model, environment))()
    layers: list[tuple[dict[str, Any], Callable[[str], str]]] = [
        (variables, lambda name: f"{PREFIX}{name.upper()} (in the environment)"),
        (_in_file(path, model) if path else {}, lambda name: f"{name} (in {path})"),
        (flags, command.flag),
    ]
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer, called in layers:
        overridden = command.alternatives if layer.keys() & set(command.alternatives) else ()
        merged = {**{name: value for name, value in merged.items() if name not in overridden}, **layer}
        origins |= {name: called(name) for name in layer}
    if missing := [name for name, field in model.settings().items() if field.is_required() and name not in merged]:
        flags_missing = " and ".join(map(command.flag, missing))
        raise ConfigError(f"missing setting: {', '.join(missing)}; give {flags_missing}, or --help for what there is")
    return merged, origins


def _variables(model: type[Settings], environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that are read, in small letters. ConfigError for one of ours that stands for no setting."""
    read = model.command.variables
    names = {f"{PREFIX}{name.upper()}" for name in (model.settings() if read is None else read)}
    found = {name for name in environment if name.startswith(PREFIX)} - NO_SETTINGS
    if read is None and (unknown := sorted(found - names)):
        hint = f"environment: unknown setting {unknown[0]};{meant(unknown[0], sorted(names))}"
        raise refusal(model.command.former, unknown[0].removeprefix(PREFIX).lower(), unknown[0], hint)
    return {name.lower(): environment[name] for name in found & names}


# ---- the three sources


def _form(model: type[Settings]) -> type[BaseSettings]:
    """The settings as text has them: what is neither a switch nor a list nor an object is read by the model itself."""
    known = model.settings()
    names = [name for group in model.command.grouped(known).values() for name in group]
    kinds = {**{name: kind_of(known[name]) for name in names}, "config": str}
    if model.command.positional:
        kinds[model.command.positional] = CliPositionalArg[str]
    fields: dict[str, Any] = {name: (kind, None) for name, kind in kinds.items()}
    return create_model("Form", __base__=BaseSettings, **fields)


class _Text:
    """Lists and objects in variables and flags: JSON, or one string. `called`: a setting's name where it is read."""

    called: Callable[[str], str]

    def decode_complex_value(self, name: str, field: FieldInfo, value: Any) -> Any:
        if field.annotation == dict[str, Any]:
            return json_object(value, self.called(name), _EXAMPLES.get(name, '{"a": "b"}'), secret="storage" in name)
        try:
            return json.loads(value) if value.lstrip().startswith(("[", "{")) else value
        except (json.JSONDecodeError, RecursionError):
            return value


class _Environment(_Text, EnvSettingsSource):
    def __init__(self, form: type[BaseSettings], variables: Mapping[str, str]) -> None:
        self.called, self._variables = lambda name: f"{PREFIX}{name.upper()}", variables
        super().__init__(form, env_prefix=PREFIX)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._variables


class _Flags(_Text, CliSettingsSource[Any]):
    def __init__(self, form: type[BaseSettings], parser: FlagParser, argv: Sequence[str]) -> None:
        self.called = parser.command.flag
        super().__init__(
            form,
            cli_parse_args=[str(word) for word in argv],
            cli_parse_none_str="\0",  # else a column could not be called null
            cli_implicit_flags=True,
            root_parser=parser,
            parse_args_method=FlagParser.parse,
            add_argument_method=FlagParser.add_setting,
        )


def _in_file(path: str, model: type[Settings]) -> dict[str, Any]:
    """The settings of a YAML file. ConfigError when it cannot be read, holds no settings, or one that is not known."""
    known, content = model.settings().keys(), _content(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path}: must hold settings as 'key: value', not a {type(content).__name__}")
    settings = {str(key): value for key, value in content.items() if value is not None}
    if unknown := sorted(settings.keys() - known):
        names = ", ".join(repr(public(name[:50])) for name in unknown[:5])
        hint = f"--config {path}: unknown setting {names};{meant(unknown[0], known)}"
        raise refusal(model.command.former, unknown[0], f"--config {path}: {unknown[0]}", hint)
    return settings


def _content(path: str) -> Any:
    try:
        return _Loader(Path(path).read_text(encoding="utf-8-sig")).get_single_data()
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}; give a YAML file of settings") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--config {path}: is not UTF-8 text; give a YAML file of settings") from None
    except RecursionError:
        raise ConfigError(f"--config {path}: is nested too deeply for settings") from None
    except (ValueError, yaml.YAMLError) as error:  # told by line, column and kind: what stands there may be secret
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = _QUOTED.sub("…", str(getattr(error, "problem", None) or "a value that cannot be read"))
        raise ConfigError(f"--config {path}: {place}{problem}; it must hold settings as 'key: value'") from None


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


def json_object(text: str, name: str, example: str, *, secret: bool) -> dict[str, Any]:
    """An object from the JSON of a flag or variable. ConfigError when it is none, which repeats nothing `secret`."""
    fault = f"; this is {'another kind of value' if secret else public(text[:100])}"
    try:
        if isinstance(value := json.loads(text), dict):
            return value
    except RecursionError:
        fault = "; this is nested too deeply"
    except json.JSONDecodeError as error:
        fault = f"; after character {error.pos}: {error.msg}"
    unshown = " (its value is not shown here)" if secret else ""
    raise ConfigError(f"{name} must be a JSON object like {example}{unshown}{fault}")
