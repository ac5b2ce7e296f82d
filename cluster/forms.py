"""`Form`: what a row is to a compressor, and what the outcome of its prompt means for the row.

A document or a prompt is compressed as it stands. A structured value is taken apart into the pieces of a prompt, and
put together again from what is left of them: that is then the text of its outcome. Both are pure functions that the
compressor's settings give, so rows stream through it as all others do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from cluster.columns import Columns
from cluster.rows import BadRow, Row
from cluster.values import text_of
from lingua.errors import ConfigError, PromptError
from lingua.prompt import Outcome, Prompt, Rejected
from lingua.structured.streams import Kind, Structure

TOO_DEEP = "too_deep", "the value nests too deeply"


class Form(Protocol):
    """The way of a row to a prompt and back."""

    def prompt(self, values: Mapping[str, Any]) -> Prompt:
        """The prompt in a row's values. RowError or PromptError when there is none."""
        ...

    def settled(self, item: Row | BadRow, outcome: Outcome) -> Outcome:
        """The outcome of a row from that of its prompt."""
        ...


@runtime_checkable
class Structures(Protocol):
    """What is needed of a compressor for structured values."""

    def structure(self, kind: Kind) -> Structure[Any]: ...


def form_of(columns: Columns, compressor: object) -> Form:
    """The form of a run's rows. ConfigError when the compressor knows no structured values and they are asked for."""
    if (kind := columns.mapped.kind) is None:
        return Plain(columns)
    if not isinstance(compressor, Structures):
        raise ConfigError(f"{kind}_column: a {type(compressor).__name__} compresses no structured values")
    return Structured(columns, compressor.structure(kind))


@dataclass(frozen=True, slots=True)
class Plain:
    """A document or a prompt a row."""

    columns: Columns

    def prompt(self, values: Mapping[str, Any]) -> Prompt:
        """The prompt as the columns say it."""
        return self.columns.prompt(values)

    def settled(self, item: Row | BadRow, outcome: Outcome) -> Outcome:
        """The same."""
        return outcome


@dataclass(frozen=True, slots=True)
class Structured:
    """A structured value a row."""

    columns: Columns
    structure: Structure[Any]

    def prompt(self, values: Mapping[str, Any]) -> Prompt:
        """The value's pieces."""
        try:
            return self.structure.decompose(self.columns.value(values).value)
        except RecursionError:
            raise PromptError(*TOO_DEEP) from None

    def settled(self, item: Row | BadRow, outcome: Outcome) -> Outcome:
        """The outcome with the value put together again as its text; that of an earlier output is it already."""
        if isinstance(item, BadRow) or isinstance(outcome, Rejected) or item.earlier is not None:
            return outcome
        try:
            value = self.structure.reassemble(self.columns.value(item.values).value, outcome)
            return replace(outcome, text=text_of(value))
        except RecursionError:  # putting together nests deeper than taking apart
            return Rejected(*TOO_DEEP)
