"""What comes from outside is validated at once: the settings of all jobs (`Validated`), and stored files (`parsed`).

Settings are frozen, and their errors name the setting, its value and what is wanted; but never the value of a setting
that may hold a credential. A stored file is JSON of exactly the types that its dataclass says, or a ValueError: what
only parses would fail later, far from its cause.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from typing import Annotated, Any, ClassVar, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from cluster.secrets import require_no_credentials
from cluster.storage import absolute, require_conditional
from lingua.errors import ConfigError
from lingua.explain import explain

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


class Validated(BaseModel):
    """Settings with an `output`. Unknown or invalid settings raise ConfigError, naming the setting.

    hidden   settings whose values are never repeated, and what is said of them instead
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    hidden: ClassVar[dict[str, str]] = {
        "storage_options": "storage_options must be a JSON object of options for fsspec (its value is not shown here)"
    }

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ConfigError(self._explained(error)) from None

    @classmethod
    def _explained(cls, error: ValidationError) -> str:
        faulty = {name for fault in error.errors(include_url=False) for name in fault["loc"]}
        secret = [complaint for name, complaint in cls.hidden.items() if name in faulty]
        return secret[0] if secret else explain(error, cls._known()).replace("inputs =", "input =")

    @classmethod
    def _known(cls) -> list[str]:
        return [field.alias or name for name, field in cls.model_fields.items()]

    @field_validator("output", check_fields=False)
    @classmethod
    def _can_hold_commits(cls, value: str) -> str:
        require_no_credentials("output", value)
        require_conditional(value)
        return absolute(value)
