"""Answers of paid endpoints, kept by the digest of what was asked, so that nothing is paid for twice.

One small file an answer, created whole and only if absent, in any folder that fsspec knows: a run that is killed and
started again, or several workers at once, share them. Nothing expires; who wants new answers takes a new folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cluster.errors import AbortRun
from cluster.storage import Storage, require_conditional


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said.

    text        the reply (empty where only probabilities were asked for)
    nll         of the asked answer in nats; None where text was asked for
    tokens      what the endpoint charged for: prompt and reply
    """

    text: str = ""
    nll: float | None = None
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class AnswersCache:
    """Answers in `folder`; ConfigError where files cannot be created only if absent."""

    folder: str
    storage: Storage

    def __post_init__(self) -> None:
        require_conditional(self.folder)

    def get(self, key: str) -> Answer | None:
        """The answer under `key`, or None. AbortRun when its file is damaged."""
        try:
            data = self.storage.read(self._url(key))
        except FileNotFoundError:
            return None
        try:
            return Answer(**json.loads(data))
        except (ValueError, TypeError) as error:
            raise AbortRun(f"{self._url(key)}: is no cached answer ({error}); delete it to ask again") from None

    def put(self, key: str, answer: Answer) -> Answer:
        """Keep `answer`; the one that counts is returned: another's, if it was first."""
        data = json.dumps(asdict(answer), ensure_ascii=False).encode()
        if self.storage.create(self._url(key), data):
            return answer
        return self.get(key) or answer

    def _url(self, key: str) -> str:
        return f"{self.folder.rstrip('/')}/{key[:2]}/{key}.json"


def digest(asked: Mapping[str, Any]) -> str:
    """Hexadecimal digest of all that an answer depends on, equal on every machine."""
    canonical = json.dumps(asked, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
