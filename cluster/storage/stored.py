"""Stored files are validated when read: JSON of exactly the types that their dataclass declares, or a ValueError.

What only parses would fail later, far from its cause.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Annotated, Any, TypeVar, cast

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

T = TypeVar("T")

STORED = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, ser_json_inf_nan="constants")
"""`__pydantic_config__` of a dataclass that is stored; fields that a later version added are left alone."""
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
"""A number of things or of bytes."""


def parsed(kind: type[T], data: bytes, what: str) -> T:
    """The stored object in `data`. ValueError, telling that it is not `what`, where and why."""
    try:
        found: T = _adapter(cast(Hashable, kind)).validate_json(data)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise ValueError(f"not {what} ({f'{place}: ' if place else ''}{fault['msg']})") from None
    return found


_adapter = cache(TypeAdapter[Any])
