"""`Budget`: how many requests and tokens an evaluation may pay for; kept exactly in requests, closely in tokens.

A request reserves what it may cost at most before it is sent, and settles what it did cost when its answer is there; so
requests that run at the same time cannot overspend together. A budget is one object's in one process: workers that
share a limit are given a part of it each (`split`).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import openai
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cluster.errors import AbortRun, ClusterError, RetryShard, RowError
from cluster.secrets import redact, require_no_credentials
from cluster.storage import Storage, require_conditional
from lingua.errors import ConfigError
from lingua.explain import explain


class BudgetSpent(AbortRun):
    """The next request would exceed the budget. What was answered is kept; with a higher limit the run goes on."""


@dataclass(slots=True)
class Budget:
    """Limits (None: none) and what is spent of them. Safe to use from many threads."""

    max_requests: int | None = None
    max_tokens: int | None = None
    requests: int = 0
    tokens: int = 0
    _reserved: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def reserve(self, tokens: int) -> None:
        """Take one request of at most about `tokens` tokens. BudgetSpent when there is no room for it."""
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
        """A reserved request is over and has cost `spent` tokens."""
        with self._lock:
            self._reserved -= reserved
            self.tokens += spent

    def split(self, parts: int) -> Budget:
        """An equal share for each of `parts` workers, rounded down."""
        requests = None if self.max_requests is None else self.max_requests // parts
        return Budget(requests, None if self.max_tokens is None else self.max_tokens // parts)

    def __str__(self) -> str:
        return f"{self.requests:,} requests, {self.tokens:,} tokens"


def estimate(prompt: str, max_tokens: int) -> int:
    """About the most that a request may cost: a token for every three bytes, which most texts stay below."""
    return len(prompt.encode()) // 3 + 1 + max_tokens


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


def echoed_nll(reply: Any, text: str, begin: int) -> float:
    """−ln p of `text[begin:]` given `text[:begin]`, in nats. ValueError when the reply does not hold it."""
    values, offsets = _tokens(reply)
    ends = [*offsets[1:], max(len(text), offsets[-1])]
    inside = (place for place, start in enumerate(offsets) if start < len(text))
    places = [place for place in inside if offsets[place] >= begin or ends[place] > begin]
    if not places:
        raise ValueError("the echo holds no token of the answer")
    missing = [place for place in places if values[place] is None and place > 0]
    if missing:
        raise ValueError(f"the echo has no probability of token {missing[0]}")
    return -sum(value for place in places if (value := values[place]) is not None)


def probe_shows_echo(reply: Any, text: str) -> bool:
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


MOST_STOPS = 4
"""Stop strings that the protocol allows; all of them cut the reply here as well."""
NO_KEY = "none"
_PROBE = "One two three four"


class EndpointSettings(BaseModel):
    """Where the endpoint is and how it is used. ConfigError names a setting that is wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(description="base URL, such as http://localhost:8000/v1")
    model: str = Field(min_length=1, description="the model's name there")
    mode: Literal["completion", "chat"] = Field("completion", description="which of the protocol's two calls")
    key_variable: str = Field("OPENAI_API_KEY", description="environment variable that holds the key")
    cache: str | None = Field(None, description="folder of answers, any path or URL; None: answers are not kept")
    storage_options: dict[str, Any] = Field({}, repr=False, description="options of the cache's filesystem")
    concurrency: int = Field(8, ge=1, le=512, description="requests at the same time")
    attempts: int = Field(6, ge=1, description="how often a request is sent at most")
    pause: float = Field(0.5, ge=0, description="seconds before the second attempt; doubles")
    timeout: float = Field(120.0, gt=0, description="seconds to wait for an answer")
    max_requests: int | None = Field(None, ge=0, description="most requests of this object, failed ones included")
    max_tokens: int | None = Field(None, ge=0, description="most tokens of this object, prompts and replies")

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ConfigError(f"endpoint: {explain(error)}") from None
        require_no_credentials("endpoint.url", self.url)

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname:
            raise ValueError("is no http:// or https:// URL")
        return value.rstrip("/")


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request: its key in the cache, how it is sent, with what, and what it may cost."""

    key: str
    send: Callable[[Parameters], Answer]
    parameters: Parameters
    tokens: int


class Endpoint:
    """A `Target` over HTTP. `budget` tells what was spent; give one to share a limit between several endpoints.

    Raises, from both calls: BudgetSpent when the next request would exceed the budget (what was answered is cached),
    RowError when the server refuses one prompt (the others are answered and cached first), AbortRun when it refuses
    all, RetryShard when it does not answer.
    """

    def __init__(self, settings: EndpointSettings, budget: Budget | None = None) -> None:
        self.settings = settings
        self.name = settings.model
        self.budget = budget or Budget(settings.max_requests, settings.max_tokens)
        key = os.environ.get(settings.key_variable) or NO_KEY
        where = f"{settings.model} at {settings.url}"
        self._caller = Caller(where, self.budget, settings.attempts, settings.pause, {"key": key})
        storage = Storage(settings.storage_options)
        self._cache = AnswersCache(settings.cache, storage) if settings.cache else None
        self._client = openai.OpenAI(api_key=key, base_url=settings.url, timeout=settings.timeout, max_retries=0)

    @cached_property
    def scores(self) -> bool:
        """Whether the server echoes a prompt with its probabilities; asked once, remembered in the cache."""
        if self.settings.mode == "chat":
            return False
        try:
            (answer,) = self._answers([self._asked(self._send_probe, _echo(_PROBE))])
        except RowError:
            return False
        return answer.text == "echo"

    def nll(self, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        """−ln p(answer | prompt) in nats. ConfigError where the endpoint cannot say."""
        if not self.scores:
            raise ConfigError(f"{self.name} in {self.settings.mode} mode gives no probabilities of a given answer")
        asked = [
            self._asked(self._send_scored(len(prompt)), _echo(prompt + answer), len(prompt))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        return [answer.nll or 0.0 for answer in self._answers(asked)]

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """The reply to each prompt at temperature 0, cut before the first of the `stop` strings."""
        send = self._send_chat if self.settings.mode == "chat" else self._send_completion
        limits = {"max_tokens": max_tokens, "temperature": 0.0, **({"stop": list(stop)[:MOST_STOPS]} if stop else {})}
        asked = [self._asked(send, {"prompt": prompt, **limits}) for prompt in prompts]
        return [cut(answer.text, stop) for answer in self._answers(asked)]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _asked(self, send: Callable[[Parameters], Answer], parameters: Parameters, begin: int | None = None) -> _Asked:
        where = {"url": self.settings.url, "model": self.settings.model, "mode": self.settings.mode}
        key = digest({**where, "begin": begin, "parameters": parameters})
        return _Asked(key, send, parameters, estimate(parameters["prompt"], parameters["max_tokens"]))

    def _answers(self, asked: Sequence[_Asked]) -> list[Answer]:
        """The answers in order; equal requests are sent once."""
        once = {one.key: one for one in asked}
        hopeless = threading.Event()

        def settle(one: _Asked) -> Answer | ClusterError | None:
            if hopeless.is_set():
                return None
            try:
                return self._answer(one)
            except ClusterError as error:
                if not isinstance(error, RowError):  # it meets the others too: those not begun are called off
                    hopeless.set()
                return error

        with ThreadPoolExecutor(self.settings.concurrency, "endpoint") as pool:
            found = dict(zip(once, pool.map(settle, once.values()), strict=True))
        answers = {key: one for key, one in found.items() if isinstance(one, Answer)}
        if len(answers) < len(once):
            raise self._worst([one for one in found.values() if isinstance(one, ClusterError)], len(answers), len(once))
        return [answers[one.key] for one in asked]

    def _answer(self, asked: _Asked) -> Answer:
        known = self._cache.get(asked.key) if self._cache else None
        if known is not None:
            return known
        answer = self._caller.call(asked.send, asked.parameters, asked.tokens)
        return self._cache.put(asked.key, answer) if self._cache else answer

    def _worst(self, failed: Sequence[ClusterError], done: int, asked: int) -> ClusterError:
        worst = min(failed, key=_gravity)
        if not isinstance(worst, BudgetSpent):
            return worst
        kept = f" and kept in {self.settings.cache}" if self.settings.cache else ""
        return BudgetSpent(f"{worst}; {done} of {asked} prompts are answered{kept}: raise it and run again")

    def _send_completion(self, parameters: Parameters) -> Answer:
        reply = self._client.completions.create(model=self.settings.model, **parameters)
        return Answer(_text_of(reply, lambda choice: choice.text), None, _charged(reply))

    def _send_chat(self, parameters: Parameters) -> Answer:
        others = {name: value for name, value in parameters.items() if name != "prompt"}
        messages: Any = [{"role": "user", "content": parameters["prompt"]}]
        reply = self._client.chat.completions.create(model=self.settings.model, messages=messages, **others)
        return Answer(_text_of(reply, lambda choice: choice.message.content), None, _charged(reply))

    def _send_scored(self, begin: int) -> Callable[[Parameters], Answer]:
        def send(parameters: Parameters) -> Answer:
            reply = self._client.completions.create(model=self.settings.model, **parameters)
            try:
                return Answer("", echoed_nll(reply, parameters["prompt"], begin), _charged(reply))
            except ValueError as error:
                raise MalformedAnswer(str(error)) from None

        return send

    def _send_probe(self, parameters: Parameters) -> Answer:
        reply = self._client.completions.create(model=self.settings.model, **parameters)
        return Answer("echo" if probe_shows_echo(reply, _PROBE) else "no echo", None, _charged(reply))


def cut(text: str, stop: Iterable[str]) -> str:
    """`text` before the first of the stop strings."""
    places = [text.find(one) for one in stop if one]
    return text[: min((place for place in places if place >= 0), default=len(text))]


def _echo(text: str) -> Parameters:
    """Parameters that ask for the probabilities of `text`; one token more, as some servers write none for zero."""
    return {"prompt": text, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}


def _text_of(reply: Any, read: Callable[[Any], str | None]) -> str:
    try:
        return read(reply.choices[0]) or ""
    except (AttributeError, IndexError, TypeError):
        raise MalformedAnswer(f"an answer without choices: {str(reply)[:200]}") from None


def _charged(reply: Any) -> int:
    return int(getattr(getattr(reply, "usage", None), "total_tokens", None) or 0)


def _gravity(error: ClusterError) -> int:
    """Smaller is graver: the run, the budget, the shard, the row."""
    if isinstance(error, AbortRun):
        return int(isinstance(error, BudgetSpent))
    return 2 if isinstance(error, RetryShard) else 3
