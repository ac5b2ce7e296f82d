"""One call of an OpenAI-compatible endpoint that ends well: attempts, pauses, budget, and what each failure means.

Attempts are counted here and not by the client library, so that every request sent is in the budget. Limits, outages
and answers that are cut or make no sense are asked for again, after the pause that the server names or one that
doubles; what it refuses for good is a RowError when one prompt is at fault, an AbortRun when all are. A parameter that
a model refuses by name is left out from then on.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import openai

from cluster.errors import AbortRun, RetryShard, RowError
from cluster.secrets import redact
from jobs.evaluation.spending import Budget

T = TypeVar("T")
Parameters = dict[str, Any]

LONGEST_PAUSE = 60.0
ADAPTATIONS: Mapping[str, Mapping[str, str]] = {
    "max_tokens": {"max_tokens": "max_completion_tokens"},
    "temperature": {"temperature": ""},
    "stop": {"stop": ""},
}
"""Parameter that a model refuses → what it is called instead; "" leaves it out."""
_ONE_PROMPT = (400, 413, 422)
_TRANSIENT = (408, 409, 425, 429)
_NO_CREDIT = "insufficient_quota"


class MalformedAnswer(Exception):  # noqa: N818 - named by what it is
    """What came back is no answer of this protocol: cut by a proxy, say. Worth another attempt."""


@dataclass(slots=True)
class Caller:
    """Sends requests of one endpoint.

    attempts   how often a request is sent at most
    pause      seconds before the second attempt; doubles, with a random part, up to `LONGEST_PAUSE`
    secrets    values that no message may show
    """

    where: str
    budget: Budget
    attempts: int = 6
    pause: float = 0.5
    secrets: Mapping[str, str] = field(default_factory=dict)
    adapted: set[str] = field(default_factory=set)
    sleep: Callable[[float], None] = time.sleep
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def call(self, send: Callable[[Parameters], T], parameters: Parameters, tokens: int) -> T:
        """`send(parameters)` until it answers; `tokens` is what it may cost at most.

        Raises BudgetSpent, RowError (this prompt is refused), AbortRun (all are), RetryShard (out of attempts).
        """
        failure: Exception | None = None
        for attempt in range(self.attempts):
            if failure is not None:
                self.sleep(self._pause(failure, attempt))
            try:
                return self._adapting(send, parameters, tokens)
            except (openai.APIError, MalformedAnswer) as error:
                self._raise_if_final(error)
                failure = error
        raise RetryShard(f"{self.where}: no answer in {self.attempts} attempts: {self._words(failure)}")

    def _adapting(self, send: Callable[[Parameters], T], parameters: Parameters, tokens: int) -> T:
        while True:
            known = set(self.adapted)
            try:
                return self._once(send, adapt(parameters, known), tokens)
            except openai.BadRequestError as error:
                refused = error.param if error.param in ADAPTATIONS and error.param in parameters else None
                if refused is None or refused in known:
                    raise
                with self._lock:
                    self.adapted.add(refused)

    def _once(self, send: Callable[[Parameters], T], parameters: Parameters, tokens: int) -> T:
        self.budget.reserve(tokens)
        spent = 0
        try:
            answer = send(parameters)
            spent = getattr(answer, "tokens", 0) or tokens
            return answer
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise MalformedAnswer(f"no JSON: {error}") from None
        finally:
            self.budget.settle(tokens, spent)

    def _raise_if_final(self, error: Exception) -> None:
        status = getattr(error, "status_code", None)
        if status in _ONE_PROMPT:
            raise RowError("endpoint_refused", f"{self.where}: {self._words(error)}") from None
        out_of_credit = getattr(error, "code", None) == _NO_CREDIT
        if out_of_credit or (isinstance(status, int) and 400 <= status < 500 and status not in _TRANSIENT):
            raise AbortRun(f"{self.where}: {self._words(error)}{_remedy(status)}") from None

    def _pause(self, failure: Exception, attempt: int) -> float:
        asked = _retry_after(failure)
        grown = self.pause * 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)
        return min(LONGEST_PAUSE, max(asked, grown))

    def _words(self, error: object) -> str:
        return redact(f"{type(error).__name__}: {error}", self.secrets)[:500]


def adapt(parameters: Parameters, refused: set[str]) -> Parameters:
    """The parameters without those that the model refuses, or under their other names."""
    names = {old: new for name in refused for old, new in ADAPTATIONS[name].items()}
    return {names.get(name, name): value for name, value in parameters.items() if names.get(name, name)}


def _retry_after(failure: Exception) -> float:
    """Seconds that the server asks to wait; 0 if it says nothing that can be read."""
    headers: Mapping[str, str] = failure.response.headers if isinstance(failure, openai.APIStatusError) else {}
    try:
        return max(0.0, float(headers.get("retry-after", "0")))
    except ValueError:
        return 0.0


def _remedy(status: int | None) -> str:
    if status in (401, 403):
        return "; put the key into the environment variable that `key_variable` names"
    return "; check the URL (it ends in /v1 with most servers) and the model's name" if status == 404 else ""
