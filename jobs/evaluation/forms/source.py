"""`Source`: where rows come from, as the user writes it: a location, and options behind ``#``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lingua.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Source:
    """``LOCATION#name=value&name=value``."""

    location: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Source:
        """From its written form. ConfigError when an option is no ``name=value``."""
        location, _, rest = text.partition("#")
        pairs = [pair.partition("=") for pair in rest.split("&") if pair]
        if bad := next((name for name, equals, _ in pairs if not equals), None):
            raise ConfigError(f"{text}: write #name=value, not #{bad}")
        return cls(location, {name: value for name, _, value in pairs})

    def require_known(self, names: Sequence[str]) -> None:
        """ConfigError for an option of another name."""
        unknown = [name for name in self.options if name not in names]
        if unknown:
            raise ConfigError(f"{self}: there is no option {unknown[0]!r} here; there are {', '.join(names)}")

    def number(self, name: str) -> int | None:
        """An option that is a number of at least 1; None where it is not given."""
        text = self.options.get(name)
        if text is not None and not (text.isdecimal() and int(text) > 0):
            raise ConfigError(f"{self}: {name} = {text!r} is no number of at least 1")
        return None if text is None else int(text)

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        """An option that is one of a few; None where it is not given."""
        text = self.options.get(name)
        if text is not None and text not in allowed:
            raise ConfigError(f"{self}: {name} = {text!r}; it may be {' or '.join(allowed)}")
        return text

    def __str__(self) -> str:
        options = "&".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.location}#{options}" if options else self.location
