"""The real peer behind the benchmark's driver: every path that is measured, and that it reads the weights as we do."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from jobs.benchmarking.contenders import SHAPES, Subject, random_model, trained_tokenizer
from jobs.benchmarking.prompts import MixSize, make_mix
from jobs.peer import Peer, PeerSettings, peer_copy, peer_options
from lingua.engine.score import BatchRow, Context
from lingua.models.causal import PlainScorer
from lingua.models.load import converted
from lingua.models.source import resolve
from lingua.prompt import Prompt

PYTHON = Path(__file__).resolve().parents[2] / ".venv-reference" / "bin" / "python"
TEXT = "The lighthouse keeper counted forty ships before breakfast and wrote each name into a leather book. " * 6

SURPRISAL = """
import json, sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], torch_dtype=torch.float32)
ids = torch.tensor([json.loads(sys.argv[2])])
with torch.no_grad():
    logits = model(ids).logits[0, :-1]
print(json.dumps(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").tolist()))
"""

pytestmark = [
    pytest.mark.reference,
    pytest.mark.skipif(not PYTHON.exists(), reason="the peer's environment is not here (make test-reference)"),
]


def tiny(encoder: bool = False) -> Subject:
    config = SHAPES["tiny-encoder" if encoder else "tiny"]()
    model = random_model(config, torch.device("cpu"), torch.float32, seed=0)
    return Subject("tiny", model, trained_tokenizer(config), None)


def running(model: Path, **settings: object) -> closing[Peer]:
    return closing(Peer(PeerSettings(str(model), threads=1, **settings), PYTHON))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The peer with a small random language model."""
    with running(tiny().for_peer(tmp_path_factory.mktemp("tiny"))) as found:
        yield found


@pytest.mark.model
def test_the_peer_reads_the_embedded_models_weights_as_we_do(tmp_path: Path) -> None:
    source = converted(resolve("smollm2-135m"))
    subject = Subject("smollm2-135m", None, None, Path(source.location))
    copy = peer_copy(subject.location or tmp_path, tmp_path / "model")
    assert surprisal_of(copy, list(range(500, 540))) == pytest.approx(ours(source.location), abs=1e-3)


@pytest.mark.model
def test_the_peer_compresses_with_the_embedded_model(tmp_path: Path) -> None:
    copy = peer_copy(Path(converted(resolve("smollm2-135m")).location), tmp_path / "model")
    with running(copy) as found:
        answer = found.compress(Prompt(context=[TEXT * 3]), {"rate": 0.5})
    assert 0 < answer.compressed_tokens < answer.origin_tokens
    assert answer.model_tokens > answer.compressed_tokens
    assert answer.text.startswith("The lighthouse keeper")


def test_versions_are_the_pinned_ones(peer: Peer) -> None:
    assert peer.versions["llmlingua"] == "0.2.2"
    assert peer.versions["transformers"] == "4.47.1"


def test_few_shot_prompts_are_compressed(peer: Peer) -> None:
    prompt = make_mix(MixSize("fewshot", 600), 1, 0, lambda text: len(text.split())).prompts[0]
    answer = peer.compress(Prompt(prompt.instruction, prompt.context[:2], prompt.question), {"rate": 0.5})
    assert answer.text.startswith(prompt.instruction)
    assert answer.text.endswith(prompt.question)
    assert answer.compressed_tokens < answer.origin_tokens


def test_question_aware_compression_runs(peer: Peer) -> None:
    prompt = Prompt(context=[TEXT, TEXT.replace("ships", "boats")], question="How many boats?")
    answer = peer.compress(prompt, peer_options("longllmlingua", 0.5))
    assert answer.text.endswith("How many boats?")
    assert (
        answer.model_tokens > answer.origin_tokens
    )  # it reads the documents to rank them, and those it keeps to cut them


def test_bfloat16_is_obeyed(tmp_path: Path) -> None:
    with running(tiny().for_peer(tmp_path), dtype="bfloat16") as found:
        assert found.compress(Prompt(context=[TEXT]), {"rate": 0.5}).model_tokens > 0


def test_encoders_are_driven_as_llmlingua2(tmp_path: Path) -> None:
    with running(tiny(encoder=True).for_peer(tmp_path), llmlingua2=True) as found:
        answer = found.compress(Prompt(context=[TEXT * 4]), peer_options("llmlingua2", 0.5))
    assert 0 < answer.compressed_tokens < answer.origin_tokens
    assert answer.model_tokens % 512 == 0  # it pads every window to 512


def surprisal_of(model: Path, ids: list[int]) -> list[float]:
    command = [str(PYTHON), "-c", SURPRISAL, str(model), json.dumps(ids)]
    found: list[float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def ours(location: str) -> list[float]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(location, dtype=torch.float32)
    model.eval()
    ids = list(range(500, 540))
    return PlainScorer(model).score([BatchRow(Context(ids=ids[:1]), ids[1:])])[0].tolist()
