"""The reference of all settings as a page: ``python -m tests.docs.settings_page`` writes docs/settings.md.

Made from the fields of `JobConfig`, so that it cannot differ from what the job accepts; a test compares the page in the
repository with it. What a setting means is in its description, here only its form is added.
"""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cluster.config import OUTPUT_SETTINGS, JobConfig
from cluster.settings import PREFIX
from lingua.config import fields as compression_fields

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
HEAD = f"""\
# Settings

Every setting has three names: the flag `--shard-size`, the key `shard_size` of the file given with `--config`, and the
variable `{PREFIX}SHARD_SIZE`. Flags override the file, the file the environment, and the environment the defaults. An
unknown name is an error in all three. A list is a repeated flag or, in the file and the environment, a JSON list; a
switch is turned off with `--no-` before its name. The variable `{PREFIX}CACHE` is no setting: it names the folder where
converted models are kept.

Settings marked • decide, with the input, what the output holds: a run under other values does not go on in it. This
page is generated: `python -m tests.docs.settings_page`.
"""
FORMS: dict[Any, str] = {str: "text", int: "integer", float: "number", bool: "switch"}


def page() -> str:
    """The whole page, as Markdown."""
    known = JobConfig.settings()
    sections = [
        _section(title, {key: known[key] for key in keys}) for title, keys in JobConfig.command.grouped(known).items()
    ]
    return "\n".join([HEAD, *sections])


def _section(title: str, settings: dict[str, FieldInfo]) -> str:
    rows = [_row(key, field) for key, field in settings.items()]
    return "\n".join(
        [f"## {title.capitalize()}", "", "| key | form | default | meaning |", "|---|---|---|---|", *rows, ""]
    )


def _row(key: str, field: FieldInfo) -> str:
    mark = " •" if key in {*OUTPUT_SETTINGS, *compression_fields()} else ""
    cells = (f"`{key}`{mark}", form_of(field), default_of(field), field.description or "")
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def form_of(field: FieldInfo) -> str:
    """What may be written: the choices, or the kind of value with its bounds."""
    forms = _forms(field.annotation)
    bounds = [words for words in map(_bound, field.metadata) if words]
    return ", ".join([" or ".join(dict.fromkeys(forms)), *bounds])


def _forms(annotation: Any) -> list[str]:
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return []
    if origin is typing.Literal:
        return [f"`{choice}`" for choice in inside]
    if origin is tuple:
        return [f"list of {FORMS.get(inside[0], 'value')}s"]
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return ["JSON object"]
    if origin is typing.Annotated:
        return _forms(inside[0])
    if origin in (types.UnionType, typing.Union):
        return [form for part in inside for form in _forms(part)]
    return [FORMS.get(annotation, "text")]


def _bound(constraint: Any) -> str:
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    found = [f"{sign} {getattr(constraint, name):g}" for name, sign in signs.items() if hasattr(constraint, name)]
    return ", ".join(found)


def default_of(field: FieldInfo) -> str:
    """The default as it would be written; nothing where the description tells it or there is none."""
    if field.is_required():
        return "required"
    default = field.default
    if field.default_factory is not None or default in (None, "", ()):
        return ""
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"`{default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
