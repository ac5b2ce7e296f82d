"""An endpoint over real HTTP: what it answers, what it pays, and what each failure of the other side leads to."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from cluster.errors import AbortRun, RetryShard, RowError
from jobs.endpoint import Budget, BudgetSpent, Endpoint, EndpointSettings
from jobs.evaluation.specs import Target
from jobs.generation import cut
from lingua.errors import ConfigError
from tests.jobs.openai_server import Model, error, openai_server

Make = Callable[..., Endpoint]
CHILD = """
import json, sys
from jobs.endpoint import Endpoint, EndpointSettings
Endpoint(EndpointSettings(**json.loads(sys.argv[1]))).generate(json.loads(sys.argv[2]), 5, [])
"""


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def make(model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Endpoints of the server in `model`, with short pauses, closed at the end."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-1234567")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(openai.OpenAI, "_calculate_retry_timeout", lambda *_, **__: 0.01)
    made: list[Endpoint] = []
    with openai_server(model) as url:

        def build(**settings: Any) -> Endpoint:
            made.append(Endpoint(EndpointSettings(**{"url": url, "model": "tiny", **settings})))
            return made[-1]

        yield build
        for endpoint in made:
            endpoint.close()


def test_completions_come_in_the_order_of_their_prompts(make: Make, model: Model) -> None:
    target: Target = make()
    prompts = [f"say word{number}" for number in range(20)]
    assert target.generate(prompts, 5, []) == [f" word{number}" for number in range(20)]
    assert model.requests[0].keys() == {"model", "prompt", "max_tokens", "temperature"}
    assert set(model.keys) == {"Bearer sk-test-1234567"}


def test_chat_mode_sends_the_prompt_as_one_user_message(make: Make, model: Model) -> None:
    assert make(mode="chat").generate(["say hello"], 5, ["\n"]) == [" hello"]
    assert model.requests[0]["messages"] == [{"role": "user", "content": "say hello"}]


def test_nll_is_the_sum_over_the_tokens_of_the_answer(make: Make) -> None:
    endpoint = make()
    assert endpoint.scores
    found = endpoint.nll(["one two", "one two"], [" three four", "x four"])
    assert found == pytest.approx([0.6 + 0.5, 0.5 + 0.5])  # "twox": the token that answer and prompt share is scored


def test_chat_and_servers_without_echo_give_no_probabilities(make: Make, model: Model) -> None:
    model.echoes = False
    for endpoint in (make(), make(mode="chat")):
        assert not endpoint.scores
        with pytest.raises(ConfigError, match="gives no probabilities"):
            endpoint.nll(["a"], [" b"])


def test_a_server_that_refuses_to_echo_scores_nothing(make: Make, model: Model) -> None:
    model.faults.append((400, error("echo is not supported"), {}))
    assert not make().scores


@pytest.mark.parametrize("fault", [(429, error("slow"), {}), (500, error("oops"), {}), (503, error("full"), {}), "cut"])
def test_what_passes_is_asked_again(make: Make, model: Model, fault: Any) -> None:
    model.faults.extend([fault, fault])
    endpoint = make()
    assert endpoint.generate(["say hello"], 5, []) == [" hello"]
    assert len(model.requests) == 3
    assert endpoint.budget.requests == 1


@pytest.mark.parametrize("fault", ["half", "empty"])
def test_an_answer_that_makes_no_sense_is_a_reason_to_come_back_later(make: Make, model: Model, fault: Any) -> None:
    model.faults.append(fault)
    with pytest.raises(RetryShard, match="an answer without what was asked for"):
        make().generate(["say hello"], 5, [])


def test_a_server_that_stays_down_is_a_reason_to_come_back_later(make: Make, model: Model) -> None:
    model.faults.extend([(500, error("oops"), {})] * 3)
    with pytest.raises(RetryShard, match=r"oops.*no answer in 3 attempts"):
        make(attempts=3).generate(["say hello"], 5, [])


def test_a_wrong_key_ends_the_run_and_is_not_shown(make: Make, model: Model) -> None:
    model.faults.append((401, error("Incorrect API key provided: sk-test-1234567"), {}))
    with pytest.raises(AbortRun, match=r"Incorrect API key provided: \*\*\*.*key_variable"):
        make(concurrency=1).generate(["a", "b", "c"], 5, [])
    assert len(model.requests) == 1


def test_an_account_without_credit_ends_the_run(make: Make, model: Model) -> None:
    model.faults.append((429, error("pay first", code="insufficient_quota"), {}))
    with pytest.raises(AbortRun, match="pay first"):
        make(attempts=1).generate(["a"], 5, [])


def test_one_refused_prompt_does_not_cost_the_others_their_answers(make: Make, model: Model, tmp_path: Path) -> None:
    model.faults.append((400, error("context length exceeded"), {}))
    endpoint = make(concurrency=1, cache=str(tmp_path))
    with pytest.raises(RowError, match="context length exceeded"):
        endpoint.generate(["first", "second", "third"], 5, [])
    assert endpoint.generate(["second", "third"], 5, []) == [" second", " third"]
    assert len(model.requests) == 3


@pytest.mark.parametrize(
    ("refused", "sent"), [("max_tokens", "max_completion_tokens"), ("temperature", None), ("stop", None)]
)
def test_a_parameter_that_the_model_refuses_is_left_out(
    make: Make, model: Model, refused: str, sent: str | None
) -> None:
    model.refuses = frozenset({refused})
    endpoint = make(mode="chat")
    assert endpoint.generate(["say hello"], 5, ["l"]) == [" he"]
    assert endpoint.generate(["say help"], 5, ["l"]) == [" he"]
    assert len(model.requests) == 3
    assert refused not in model.requests[-1]
    assert sent is None or model.requests[-1][sent] == 5


def test_nothing_is_paid_for_twice(make: Make, model: Model, tmp_path: Path) -> None:
    prompts = ["say one", "say two", "say one"]
    for _ in range(2):
        endpoint = make(cache=str(tmp_path))
        assert endpoint.generate(prompts, 5, []) == [" one", " two", " one"]
        assert endpoint.nll(["a b"], [" c"]) == pytest.approx([0.2])
    assert len(model.requests) == 4  # two prompts, the small question, one answer scored
    assert endpoint.budget.requests == 0


@pytest.mark.parametrize("other", [{"model": "large"}, {"mode": "chat"}])
def test_another_model_or_mode_is_another_answer(
    make: Make, model: Model, tmp_path: Path, other: dict[str, str]
) -> None:
    make(cache=str(tmp_path)).generate(["say one"], 5, [])
    make(cache=str(tmp_path), **other).generate(["say one"], 5, [])
    make(cache=str(tmp_path)).generate(["say one"], 6, [])
    make(cache=str(tmp_path)).generate(["say one"], 5, ["."])
    assert len(model.requests) == 4


def test_what_was_answered_before_a_kill_is_not_asked_again(make: Make, model: Model, tmp_path: Path) -> None:
    endpoint, prompts = make(cache=str(tmp_path), concurrency=1), [f"say {number}" for number in range(40)]
    model.delay = 0.05
    child = subprocess.Popen([sys.executable, "-c", CHILD, endpoint.settings.model_dump_json(), json.dumps(prompts)])
    while len(model.requests) < 5:
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait()
    model.delay = 0.0
    assert endpoint.generate(prompts, 5, []) == [f" {number}" for number in range(40)]
    asked = Counter(request["prompt"] for request in model.requests)
    assert asked.keys() == set(prompts)
    assert asked.total() <= len(prompts) + 1  # the one whose answer was on its way


def test_a_spent_budget_says_what_is_done_and_what_to_do(make: Make, model: Model, tmp_path: Path) -> None:
    endpoint = make(cache=str(tmp_path), max_requests=4)
    with pytest.raises(
        BudgetSpent, match=rf"budget of 4 requests.*; 4 of 9 prompts are answered and kept in {tmp_path}"
    ):
        endpoint.generate([f"say {number}" for number in range(9)], 5, [])
    assert len(model.requests) == 4


def test_a_budget_in_tokens_is_not_overspent_by_requests_at_the_same_time(make: Make, model: Model) -> None:
    endpoint = make(max_tokens=60, concurrency=8)
    with pytest.raises(BudgetSpent, match="60 tokens"):
        endpoint.generate([f"say {number}" for number in range(50)], 5, [])
    assert 0 < endpoint.budget.tokens <= 60
    assert endpoint.budget.tokens == 3 * len(model.requests)


def test_a_budget_can_be_shared_by_workers() -> None:
    shares = [Budget(10, 1000).split(3) for _ in range(3)]
    assert [(share.max_requests, share.max_tokens) for share in shares] == [(3, 333)] * 3


def test_as_many_requests_run_at_once_as_are_allowed(make: Make, model: Model) -> None:
    model.barrier = threading.Barrier(4)
    assert len(make(concurrency=4).generate([f"say {number}" for number in range(8)], 5, [])) == 8


def test_a_damaged_answer_is_named(make: Make, tmp_path: Path) -> None:
    make(cache=str(tmp_path)).generate(["say one"], 5, [])
    (file,) = tmp_path.glob("*/*.json")
    file.write_text('{"text": "on')
    with pytest.raises(AbortRun, match=f"{file.name}: is no cached answer.*delete it"):
        make(cache=str(tmp_path)).generate(["say one"], 5, [])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "localhost:8000"}, "url = 'localhost:8000'"),
        ({"url": "http://user:secret@host/v1"}, "carries credentials"),
        ({"mode": "chatty"}, "mode = 'chatty'"),
        ({"concurrency": 0}, "concurrency = 0"),
        ({"key": "sk-1"}, "unknown setting 'key'"),
        ({"cache": "http://host/folder"}, "only if it is absent"),
        ({"cache": "s3://user:word@bucket/folder"}, "carries credentials"),
    ],
)
def test_wrong_settings_are_named_before_anything_is_sent(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Endpoint(EndpointSettings(**{"url": "http://127.0.0.1:9/v1", "model": "tiny", **settings}))


def test_answers_are_kept_where_they_can_be_found_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    place = {"url": "http://127.0.0.1:9/v1", "model": "tiny", "cache": "answers"}
    assert EndpointSettings(**place).cache == f"{tmp_path}/answers"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")  # Ray deletes a submitted job's folder with the job
    with pytest.raises(ConfigError, match="answers: is a relative path"):
        EndpointSettings(**place)


def test_a_reply_ends_before_the_first_stop_string() -> None:
    assert cut("one\n\nQuestion: two", ["Question:", "\n\n", ""]) == "one"
