"""`Endpoint`: a target behind any OpenAI-compatible endpoint, in completion mode or chat mode.

Answers are cached by everything they depend on, so that nothing is paid for twice; requests run side by side, within a
budget; retries after outages and rate limits are the client library's. The key comes from the environment only.
Probabilities of a given text can be had in completion mode where the server echoes the prompt with them (vLLM does;
most hosted models do not): a short probe finds out. Left out: streaming, images, and more than one reply to a prompt.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal
from urllib.parse import urlsplit

import openai
from pydantic import Field, field_validator

from cluster.config import Output
from cluster.errors import AbortRun, ClusterError, RetryShard, RowError
from cluster.output.folder import RunFolder
from cluster.settings import Settings
from cluster.storage.credentials import redact, require_no_credentials
from jobs.generation import cut
from lingua.errors import ConfigError

Parameters = dict[str, Any]
ALTERNATIVES: Mapping[str, Mapping[str, str]] = {
    "max_tokens": {"max_tokens": "max_completion_tokens"},
    "temperature": {"temperature": ""},
    "stop": {"stop": ""},
}
"""Parameter that a model refuses → what it is called instead; "" leaves it out."""
MOST_STOPS = 4
"""Stop strings that the protocol allows; all of them cut the reply here as well."""
NO_KEY = "none"
_ONE_PROMPT = (400, 413, 422)
_TRANSIENT = (408, 409, 425, 429)
_NO_CREDIT = "insufficient_quota"
_KEY = "; put the key into the environment variable that `key_variable` names"
_REMEDIES = {401: _KEY, 403: _KEY, 404: "; check the URL (most servers' ends in /v1) and the model's name"}
_PROBE = "One two three four"


class EndpointSettings(Settings):
    """Where the endpoint is and how it is used. ConfigError names a setting that is wrong."""

    url: str = Field(description="base URL, such as http://localhost:8000/v1")
    model: str = Field(min_length=1, description="the model's name there")
    mode: Literal["completion", "chat"] = Field("completion", description="which of the protocol's two calls")
    key_variable: str = Field("OPENAI_API_KEY", description="environment variable that holds the key")
    cache: Output | None = Field(None, description="folder of answers, any path or URL; None: answers are not kept")
    storage_options: dict[str, Any] = Field({}, repr=False, description="options of the cache's filesystem")
    concurrency: int = Field(8, ge=1, le=512, description="requests at the same time")
    attempts: int = Field(6, ge=1, description="how often a request is sent at most")
    timeout: float = Field(120.0, gt=0, description="seconds to wait for an answer")
    max_requests: int | None = Field(None, ge=0, description="most prompts to send; retries are not counted")
    max_tokens: int | None = Field(None, ge=0, description="most tokens to pay for, prompts and replies")

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname:
            raise ValueError("is no http:// or https:// URL")
        return require_no_credentials("endpoint.url", value).rstrip("/")


# ---- what may be spent


class BudgetSpent(AbortRun):
    """The next request would exceed the budget. Answers so far are kept; with a higher limit the run continues."""


@dataclass(slots=True)
class Budget:
    """Limits (None: none) and what has been spent. Thread-safe; each worker is given its share (`split`)."""

    max_requests: int | None = None
    max_tokens: int | None = None
    requests: int = 0
    tokens: int = 0
    _reserved: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def reserve(self, tokens: int) -> None:
        """Reserve one request of at most about `tokens` tokens. BudgetSpent when it does not fit."""
        with self._lock:
            if self.max_requests is not None and self.requests >= self.max_requests:
                raise BudgetSpent(f"the budget of {self.max_requests:,} requests is spent")
            if self.max_tokens is not None and self.tokens + self._reserved + tokens > self.max_tokens:
                raise BudgetSpent(
                    f"the next request of about {tokens:,} tokens would exceed the budget of {self.max_tokens:,} "
                    f"tokens ({self.tokens:,} are spent, {self._reserved:,} in flight)"
                )
            self.requests += 1
            self._reserved += tokens

    def settle(self, reserved: int, spent: int) -> None:
        """A reserved request has ended and cost `spent` tokens."""
        with self._lock:
            self._reserved -= reserved
            self.tokens += spent

    def split(self, parts: int) -> Budget:
        """An equal share for each of `parts` workers, rounded down."""
        requests = None if self.max_requests is None else self.max_requests // parts
        return Budget(requests, None if self.max_tokens is None else self.max_tokens // parts)


def estimate(prompt: str, max_tokens: int) -> int:
    """An upper estimate of what a request costs: a token for every three bytes, which most texts stay below."""
    return len(prompt.encode()) // 3 + 1 + max_tokens


# ---- answers


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said: the reply's `text`, or the `nll` (nats) of the asked answer; `tokens` charged for."""

    text: str = ""
    nll: float | None = None
    tokens: int = 0


# ---- the endpoint


@dataclass(frozen=True, slots=True)
class _Request:
    """One request: its key in the cache, by all that its answer depends on; how its reply is read; its cost at most."""

    key: str
    read: Callable[[Any], Answer]
    parameters: Parameters
    tokens: int


class Endpoint:
    """A `Target` over HTTP. `budget` counts what was spent; pass one to share a limit between several endpoints.

    Both calls raise BudgetSpent when the next request would exceed the budget (answers so far are cached), RowError
    when the server refuses one prompt (the others are answered and cached first), AbortRun when it refuses all, and
    RetryShard when it does not answer.
    """

    def __init__(self, settings: EndpointSettings, budget: Budget | None = None) -> None:
        self.settings = settings
        self.name, self._where = settings.model, f"{settings.model} at {settings.url}"
        self.budget = budget or Budget(settings.max_requests, settings.max_tokens)
        self._key = os.environ.get(settings.key_variable) or NO_KEY
        self._kept = RunFolder(settings.cache, "answers", settings.storage_options) if settings.cache else None
        self._client = openai.OpenAI(
            api_key=self._key, base_url=settings.url, timeout=settings.timeout, max_retries=settings.attempts - 1
        )
        self._refused: set[str] = set()

    @cached_property
    def scores(self) -> bool:
        """Whether the server echoes a prompt with its probabilities; asked once, remembered in the cache."""
        if self.settings.mode == "chat":
            return False
        probe = self._request(lambda reply: Answer("echo" if _echoes(reply, _PROBE) else "no echo"), _echo(_PROBE))
        try:
            return self._answers([probe])[0].text == "echo"
        except RowError:
            return False

    def nll(self, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        """−ln p(answer | prompt) in nats. ConfigError where the endpoint cannot say."""
        if not self.scores:
            raise ConfigError(f"{self.name} in {self.settings.mode} mode gives no probabilities of a given answer")
        asked = [
            self._request(_reads_nll(prompt + answer, len(prompt)), _echo(prompt + answer), len(prompt))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        return [answer.nll or 0.0 for answer in self._answers(asked)]

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """The reply to each prompt at temperature 0, cut before the first of the `stop` strings."""
        limits = {"max_tokens": max_tokens, "temperature": 0.0, **({"stop": list(stop)[:MOST_STOPS]} if stop else {})}
        asked = [self._request(_read_text, {"prompt": prompt, **limits}) for prompt in prompts]
        return [cut(answer.text, stop) for answer in self._answers(asked)]

    def close(self) -> None:
        self._client.close()

    def _request(self, read: Callable[[Any], Answer], parameters: Parameters, begin: int | None = None) -> _Request:
        where = {"url": self.settings.url, "model": self.settings.model, "mode": self.settings.mode}
        asked = json.dumps({**where, "begin": begin, "parameters": parameters}, sort_keys=True)
        key = hashlib.sha256(asked.encode()).hexdigest()
        return _Request(key, read, parameters, estimate(parameters["prompt"], parameters["max_tokens"]))

    def _answers(self, asked: Sequence[_Request]) -> list[Answer]:
        """The answers in order; equal requests are sent once."""
        once = {one.key: one for one in asked}
        hopeless = threading.Event()

        def settle(one: _Request) -> Answer | ClusterError | None:
            if hopeless.is_set():
                return None
            try:
                return self._answer(one)
            except ClusterError as error:
                if not isinstance(error, RowError):  # the others would fail alike: those not yet sent are called off
                    hopeless.set()
                return error

        with ThreadPoolExecutor(self.settings.concurrency, "endpoint") as pool:
            found = dict(zip(once, pool.map(settle, once.values()), strict=True))
        answers = {key: one for key, one in found.items() if isinstance(one, Answer)}
        if len(answers) < len(once):
            raise self._worst([one for one in found.values() if isinstance(one, ClusterError)], len(answers), len(once))
        return [answers[one.key] for one in asked]

    def _answer(self, asked: _Request) -> Answer:
        """What is known, or else paid for. A file an answer, which whoever comes first makes: nothing expires."""
        if self._kept is None:
            return self._paid(asked)
        name = f"{asked.key[:2]}/{asked.key}.json"
        try:
            return Answer(**self._kept.once(name, lambda: asdict(self._paid(asked))))
        except (ValueError, TypeError) as error:
            where = f"{self.settings.cache}/{name}"
            raise AbortRun(f"{where}: is no cached answer ({error}); delete it to ask again") from None

    def _paid(self, asked: _Request) -> Answer:
        self.budget.reserve(asked.tokens)
        spent = 0
        try:
            answer = self._asked(asked)
            spent = answer.tokens or asked.tokens
        finally:
            self.budget.settle(asked.tokens, spent)
        return answer

    def _asked(self, asked: _Request) -> Answer:
        """The answer of the server; a parameter that it refuses by name is left out from then on."""
        refused = frozenset(self._refused)
        try:
            reply = self._send(adapt(asked.parameters, refused))
            charged = int(getattr(getattr(reply, "usage", None), "total_tokens", None) or 0)
            return replace(asked.read(reply), tokens=charged)
        except openai.APIError as error:
            parameter = getattr(error, "param", None)
            if parameter in ALTERNATIVES and parameter in asked.parameters and parameter not in refused:
                self._refused.add(parameter)
                return self._asked(asked)
            raise self._failure(error) from None
        except (AttributeError, IndexError, TypeError, ValueError) as error:  # what came back is no whole answer
            raise RetryShard(f"{self._where}: an answer without what was asked for ({self._words(error)})") from None

    def _send(self, parameters: Parameters) -> Any:
        if self.settings.mode == "completion":
            return self._client.completions.create(model=self.settings.model, **parameters)
        others = {name: value for name, value in parameters.items() if name != "prompt"}
        messages: Any = [{"role": "user", "content": parameters["prompt"]}]
        return self._client.chat.completions.create(model=self.settings.model, messages=messages, **others)

    def _failure(self, error: openai.APIError) -> ClusterError:
        status = getattr(error, "status_code", None)
        said = f"{self._where}: {self._words(error)}"
        if status in _ONE_PROMPT:
            return RowError("endpoint_refused", said)
        if error.code == _NO_CREDIT or (isinstance(status, int) and status < 500 and status not in _TRANSIENT):
            return AbortRun(said + _REMEDIES.get(status or 0, ""))
        return RetryShard(f"{said} (no answer in {self.settings.attempts} attempts)")

    def _words(self, error: Exception) -> str:
        return redact(" ".join(str(error).split())[:500], {"key": self._key})

    def _worst(self, failed: Sequence[ClusterError], done: int, asked: int) -> ClusterError:
        worst = next((one for one in failed if not isinstance(one, RowError)), failed[0])
        if not isinstance(worst, BudgetSpent):
            return worst
        kept = f" and kept in {self.settings.cache}" if self.settings.cache else ""
        return BudgetSpent(f"{worst}; {done} of {asked} prompts are answered{kept}: raise it and run again")


def adapt(parameters: Parameters, refused: Iterable[str]) -> Parameters:
    """Parameters under the names that the model takes, without those that it refuses."""
    names = {name: new for one in refused for name, new in ALTERNATIVES[one].items()}
    return {names.get(name, name): value for name, value in parameters.items() if names.get(name, name)}


# ---- reading replies. Each token of an echoed prompt has a log-probability and the character at which it begins.


def _read_text(reply: Any) -> Answer:
    choice = reply.choices[0]
    return Answer((choice.message.content if hasattr(choice, "message") else choice.text) or "")


def _reads_nll(text: str, begin: int) -> Callable[[Any], Answer]:
    return lambda reply: Answer(nll=echoed_nll(reply, text, begin))


def _echo(text: str) -> Parameters:
    """Parameters that ask for the probabilities of `text`; one token more, as some servers write none for zero."""
    return {"prompt": text, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}


def echoed_nll(reply: Any, text: str, begin: int) -> float:
    """−ln p of `text[begin:]` given `text[:begin]`, in nats. ValueError when the reply does not hold it.

    A token counts towards the answer when any of it lies behind `begin`: where prompt and answer meet within a token,
    the answer makes it that token. The first token of all has no probability and counts nothing.
    """
    values, offsets = _tokens(reply)
    ends = [*offsets[1:], max(len(text), offsets[-1])]
    inside = (place for place, start in enumerate(offsets) if start < len(text))
    if not (places := [place for place in inside if offsets[place] >= begin or ends[place] > begin]):
        raise ValueError("the echo holds no token of the answer")
    if missing := [place for place in places if values[place] is None and place > 0]:
        raise ValueError(f"the echo has no probability of token {missing[0]}")
    return -sum(value for place in places if (value := values[place]) is not None)


def _echoes(reply: Any, text: str) -> bool:
    """Whether a server that was asked to echo `text` did, with probabilities of all but its first token."""
    try:
        values, offsets = _tokens(reply)
    except ValueError:
        return False
    inside = [value for value, offset in zip(values, offsets, strict=True) if 0 < offset < len(text)]
    return offsets[0] == 0 and bool(inside) and all(isinstance(value, float) and value <= 0 for value in inside)


def _tokens(reply: Any) -> tuple[list[float | None], list[int]]:
    """Log-probability and first character of each token of an echoed reply."""
    try:
        logprobs = reply.choices[0].logprobs
        values, offsets = list(logprobs.token_logprobs), list(logprobs.text_offset)
    except (AttributeError, IndexError, TypeError):
        raise ValueError("an answer without the probabilities of its tokens") from None
    if not values or len(values) != len(offsets) or any(later < sooner for sooner, later in pairwise(offsets)):
        raise ValueError("probabilities and places of the tokens do not fit together")
    return values, offsets
