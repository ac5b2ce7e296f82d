"""Settings of a training job from flags and a YAML file: flags over file over defaults, unknown keys are errors.

Flags are made from the fields of a pydantic class, so none can be forgotten and ``--help`` is always whole. Credentials
of the storage may also stand in the variable LINGUA_STORAGE_OPTIONS, as for the other jobs: command lines can be seen.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cluster.flags import FlagParser, file_settings, help_of, json_object, kind_of
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
        flags = self.parser().parse(argv)
        file = flags.pop("config")
        content = file_settings(file, self._fields()) if file else {}
        merged = {**_credentials(os.environ if environment is None else environment), **content, **flags}
        missing = [key for key, field in self._fields().items() if field.is_required() and key not in merged]
        if missing:
            raise ConfigError(f"missing setting: {', '.join(missing)}; give --{missing[0]}, or --help for all settings")
        return merged

    def parser(self) -> FlagParser:
        """Flags for all settings; those that are not given are absent from the result."""
        parser = FlagParser(self.name, self.usage, self.description, self.examples)
        fields = self._fields()
        for title, keys in self.groups.items():
            group = parser.add_argument_group(title)
            for key in keys:
                group.add_argument(
                    f"--{key.replace('_', '-')}", dest=key, help=help_of(fields[key]), **kind_of(fields[key])
                )
        return parser

    def _fields(self) -> dict[str, FieldInfo]:
        return {field.alias or name: field for name, field in self.settings.model_fields.items()}


def _credentials(environment: Mapping[str, str]) -> dict[str, Any]:
    text = environment.get(VARIABLE)
    return {} if text is None else {"storage_options": json_object(text)}
