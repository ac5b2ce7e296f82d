"""The face of the library: one outcome for each prompt, the same every time, with a real model behind it."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lingua import CompressedPrompt, CompressionConfig, Compressor, ModelError, Prompt, PromptError
from tests.models import save
from tests.texts import NASTY, PROSE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def compressor(folder: Path) -> Compressor:
    return Compressor(str(folder), CompressionConfig(method="llmlingua", rate=0.5), device="cpu", dtype="float32")


def test_a_model_directory_compresses_every_text(compressor: Compressor) -> None:
    prompts = [Prompt(context=[text]) for text in (PROSE, *NASTY.values())]
    results = compressor.compress(prompts)
    assert len(results) == len(prompts)
    for result in results:
        assert isinstance(result, CompressedPrompt)
        assert result.compressed_tokens <= result.target_tokens or result.status == "over_budget"
    assert results[0].rate == pytest.approx(0.5, abs=0.03)  # type: ignore[union-attr]


def test_the_same_prompts_give_the_same_outcomes(compressor: Compressor) -> None:
    prompts = [Prompt("Read.", [PROSE, PROSE[::-1]], "Who?")] * 3
    first = compressor.compress(prompts)
    assert first == compressor.compress(prompts)
    assert first[0] == first[1] == first[2]


def test_calls_of_one_model_wait_for_each_other_and_for_no_other_model(compressor: Compressor, folder: Path) -> None:
    other = Compressor(str(folder), CompressionConfig(method="random"), device="cpu")
    inside, leave, done = threading.Event(), threading.Event(), list[str]()

    def prompts() -> Iterator[Prompt]:
        inside.set()
        assert leave.wait(60)
        done.append("first")
        yield Prompt(context=["one two"])

    def second() -> None:
        compressor.using(CompressionConfig(method="random")).compress([Prompt(context=["three four"])])
        done.append("second")

    threads = [threading.Thread(target=lambda: compressor.compress(prompts())), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    assert len(other.compress([Prompt(context=["five six"])])) == 1
    leave.set()
    for thread in threads:
        thread.join(60)
    assert done == ["first", "second"]


def test_a_bar_counts_prompts_on_a_terminal_or_when_asked_for(
    compressor: Compressor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [Prompt(context=["few words"])] * 5
    plain = compressor.compress(prompts)
    assert capsys.readouterr().err == ""
    assert compressor.compress(prompts, progress=True) == plain
    assert "5/5" in capsys.readouterr().err
    assert compressor.compress(iter(prompts), progress=True) == plain
    assert "5prompt" in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert compressor.compress(prompts) == plain
    assert capsys.readouterr().err.strip() == ""  # over before anyone would wonder
    monkeypatch.setattr("lingua.compressor.SECONDS_WITHOUT_BAR", 0)
    assert compressor.compress(prompts) == plain
    assert "5/5" in capsys.readouterr().err
    assert compressor.compress(prompts, progress=False) == plain
    assert capsys.readouterr().err == ""


def test_any_two_texts_can_be_compared_without_asking_the_model(compressor: Compressor) -> None:
    before = compressor.computed_seconds
    found = compressor.fidelity("Amal sold 3,200 tonnes in Vienna", "Amal sold tonnes")
    assert (found.numbers, found.names) == (0.0, 0.0)
    assert 0 < found.overall < 0.5
    assert compressor.computed_seconds == before


def test_what_is_no_prompt_is_a_type_error(compressor: Compressor) -> None:
    with pytest.raises(TypeError, match="Prompt"):
        compressor.compress(["text"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"compress\(\[prompt\]\)"):
        compressor.compress(Prompt(context=["text"]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not str"):
        compressor.word_labels(["text"])  # type: ignore[list-item]
    for wrong in ({"model": CompressionConfig()}, {"config": {"rate": 0.5}}):
        with pytest.raises(TypeError, match="the second a CompressionConfig"):
            Compressor(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "told"), [("\ud800", "lone surrogate"), (None, "must be a string"), (b"a", "bytes")])
def test_what_is_no_text_is_neither_counted_nor_compared(compressor: Compressor, text: Any, told: str) -> None:
    for ask in (compressor.count, lambda one: compressor.fidelity(one, "a"), lambda one: compressor.fidelity("a", one)):
        with pytest.raises(PromptError, match=told):
            ask(text)


def test_a_compressor_can_be_pickled_and_loads_its_model_again(compressor: Compressor) -> None:
    other = pickle.loads(pickle.dumps(compressor))
    prompts = [Prompt(context=[PROSE])]
    assert other.digest == compressor.digest
    assert other.compress(prompts) == compressor.compress(prompts)
    assert copy.deepcopy(compressor).compress(prompts) == compressor.compress(prompts)


def test_a_device_that_is_none_is_told(folder: Path) -> None:
    with pytest.raises(ModelError, match="device None cannot be used"):
        Compressor(str(folder), CompressionConfig(method="llmlingua"), device=None)  # type: ignore[arg-type]


def test_other_settings_share_the_model(compressor: Compressor) -> None:
    other = compressor.using(CompressionConfig(method="llmlingua", rate=0.2))
    assert other.digest != compressor.digest
    (result,) = other.compress([Prompt(context=[PROSE])])
    assert isinstance(result, CompressedPrompt)
    assert result.rate <= 0.2


def test_a_changed_model_has_another_digest(folder: Path, compressor: Compressor, tmp_path: Path) -> None:
    same = Compressor(str(save(tmp_path / "same")), CompressionConfig(method="llmlingua", rate=0.5), device="cpu")
    other = Compressor(
        str(save(tmp_path / "other", "qwen2")), CompressionConfig(method="llmlingua", rate=0.5), device="cpu"
    )
    assert same.digest == compressor.digest
    assert other.digest != compressor.digest


def test_a_changed_ranking_model_has_another_digest(compressor: Compressor, tmp_path: Path) -> None:
    ranks = save(tmp_path / "ranks")
    asks = CompressionConfig(method="longllmlingua", rank_method=f"embedding:{ranks}")
    before = compressor.using(asks).digest
    with (ranks / "config.json").open("a") as stream:
        stream.write("\n")
    assert compressor.using(asks).digest != before


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelError, match=r"\./no/such/model"):
        Compressor("./no/such/model")


@pytest.mark.model
def test_the_embedded_model_keeps_names_and_figures_before_function_words() -> None:
    compressor = Compressor(
        "smollm2-135m", CompressionConfig(method="llmlingua", rate=0.4), device="cpu", dtype="float32"
    )
    (result,) = compressor.compress([Prompt(context=[PROSE])])
    assert isinstance(result, CompressedPrompt)
    assert 0.95 * result.target_tokens <= result.compressed_tokens <= result.target_tokens
    kept = set(result.text.split())
    assert len(kept & {"Vienna", "Amal", "Haddad,", "tonnes", "$41.50", "trams"}) > 2
    assert len(kept & {"The", "the", "of", "to", "and", "was"}) < 4
