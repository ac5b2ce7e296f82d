"""`Endpoint`: a target behind any OpenAI-compatible endpoint, in completion mode or chat mode.

Answers are cached by all that they depend on (`answers_cache`), requests run side by side and within a budget
(`spending`), failures are met in `endpoint_calls`. The key comes from the environment only. Probabilities of a given
text are to be had in completion mode where the server echoes the prompt with them (vLLM does; most hosted models do
not): a small question finds out. Left out: streaming, images, and more than one reply to a prompt.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal
from urllib.parse import urlsplit

import openai
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cluster.errors import AbortRun, ClusterError, RetryShard, RowError
from cluster.secrets import require_no_credentials
from cluster.storage import Storage
from jobs.evaluation.answers_cache import Answer, AnswersCache, digest
from jobs.evaluation.echo import echoed_nll, probe_shows_echo
from jobs.evaluation.endpoint_calls import Caller, MalformedAnswer, Parameters
from jobs.evaluation.spending import Budget, BudgetSpent, estimate
from lingua.errors import ConfigError
from lingua.explain import explain

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
