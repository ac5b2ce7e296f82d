"""What can go wrong in the engine, classed by consequence.

LinguaError
├── ConfigError     a setting is wrong: nothing starts
│   └── UnreadError settings were given that the chosen method does not read
├── ModelError      a model or tokenizer cannot be found, loaded or used: nothing starts
└── PromptError     one prompt cannot be compressed: it becomes a `Rejected`, its neighbours go on

Every message names the thing, its value and the remedy.
"""

from __future__ import annotations


class LinguaError(Exception):
    """Base of everything this package raises on purpose."""


class ConfigError(LinguaError):
    """A setting is wrong; raised before any model is loaded."""


class UnreadError(ConfigError):
    """Settings were given that the chosen method does not read: `complaints`, what is said of each by its name."""

    def __init__(self, complaints: dict[str, str]) -> None:
        super().__init__(complaints)  # as it was given, so that the exception survives pickling
        self.complaints = complaints

    def __str__(self) -> str:
        return "; ".join(f"{name} {complaint}" for name, complaint in self.complaints.items())


class ModelError(LinguaError):
    """A model or tokenizer cannot be found, loaded or used."""


class PromptError(LinguaError):
    """One prompt cannot be compressed.

    `reason` is a short, stable identifier (``wrong_type``, ``protect_timeout``, …) to count by; `detail` is for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that the exception survives pickling
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return self.detail
