"""`Validated`: what the settings of all jobs share, whatever each of them sets.

They are frozen, validated at once, and their errors name the setting, its value and what is wanted; but never the value
of a setting that may hold a credential.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from cluster.secrets import require_no_credentials
from cluster.storage import absolute, require_conditional
from lingua.errors import ConfigError
from lingua.explain import explain


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
