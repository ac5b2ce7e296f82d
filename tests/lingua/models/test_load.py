"""A model's name finds it, on the device and in the type asked for; what is wrong is said with the remedy."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, BertForMaskedLM, BertModel

from lingua.engine.score import BatchRow, Context
from lingua.errors import ModelError
from lingua.models import load
from lingua.models.load import Loader, choose_device, choose_dtype, fuse_norms, place
from lingua.models.source import ModelSource, resolve
from lingua.models.trial import causal_scorer
from tests.lingua.models.encoders import save_encoder
from tests.models import save, tiny
from tests.texts import NASTY, PROSE

CPU = torch.device("cpu")


def test_the_dtype_is_the_one_asked_for() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("float16", cpu) is torch.float16
    assert choose_dtype("auto", torch.device("cuda")) is torch.bfloat16
    with pytest.raises(ModelError, match="float8"):
        choose_dtype("float8", cpu)


@pytest.mark.parametrize("device", ["cuda:99", "no such device"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(ModelError, match=device):
        choose_device(device)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(b"x")
    with pytest.raises(ModelError, match="gguf"):
        resolve(str(file))


def test_an_empty_directory_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        Loader(resolve(str(tmp_path))).tokenizer()


def test_a_model_is_read_once_for_its_digest_unless_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, read, digest = tmp_path / "model.safetensors", list[str](), hashlib.file_digest
    file.write_bytes(b"weights")
    monkeypatch.setattr("hashlib.file_digest", lambda stream, made: read.append(stream.name) or digest(stream, made))
    first = resolve(str(tmp_path)).digest
    assert resolve(str(tmp_path)).digest == first
    assert read == [str(file)]
    file.write_bytes(b"changed")
    os.utime(file, (1, 1))
    assert resolve(str(tmp_path)).digest != first


def test_a_directory_is_digested_by_its_content(tmp_path: Path) -> None:
    first, second = save(tmp_path / "first"), save(tmp_path / "second")
    assert resolve(str(first)).digest == resolve(str(second)).digest
    with (second / "config.json").open("a") as stream:
        stream.write("\n")
    assert resolve(str(first)).digest != resolve(str(second)).digest


def test_threads_wait_asleep_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    import lingua.models

    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    importlib.reload(lingua.models)
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    importlib.reload(lingua.models)
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


class FakeAuto:
    """Stands for a class of transformers whose `from_pretrained` gives something that can be saved; counts."""

    def __init__(self, file: str) -> None:
        self.file, self.loaded = file, 0

    def from_pretrained(self, *_: object, **__: object) -> FakeAuto:
        self.loaded += 1
        return self

    def save_pretrained(self, folder: Path) -> None:
        (folder / self.file).write_text("{}")


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModelSource, FakeAuto, FakeAuto]:
    """A GGUF file, and what reads its tokenizer and its weights."""
    monkeypatch.setenv("LINGUA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.gguf").write_bytes(b"weights")
    tokenizer, model = FakeAuto("tokenizer.json"), FakeAuto("model.safetensors")
    monkeypatch.setattr(load, "AutoTokenizer", tokenizer)
    monkeypatch.setattr(load, "AutoModelForCausalLM", model)
    monkeypatch.setattr(load, "_unquantised", lambda loaded: loaded)
    return resolve(str(tmp_path / "tiny.gguf")), tokenizer, model


def test_the_tokenizer_of_a_gguf_file_is_made_once_without_its_weights(
    fakes: tuple[ModelSource, FakeAuto, FakeAuto],
) -> None:
    source, tokenizer, model = fakes
    folders = {load.tokenizer_of(source).location for _ in range(2)}
    assert (len(folders), tokenizer.loaded, model.loaded) == (1, 1, 0)
    assert [path.name for path in Path(folders.pop()).iterdir()] == ["tokenizer.json"]


def test_a_converted_model_serves_its_tokenizer_too(fakes: tuple[ModelSource, FakeAuto, FakeAuto]) -> None:
    source, tokenizer, model = fakes
    load.converted(source)
    assert load.tokenizer_of(source) == load.converted(source)
    assert (tokenizer.loaded, model.loaded) == (1, 1)


@pytest.mark.model
def test_a_tokenizer_alone_reads_as_that_of_the_converted_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = Loader(resolve("smollm2-135m"))
    load.converted(loader.source)
    whole = loader.tokenizer()
    monkeypatch.setenv("LINGUA_CACHE", str(tmp_path))
    alone = loader.tokenizer()
    assert not list(tmp_path.rglob("*.safetensors"))
    texts = [PROSE, *NASTY.values()]
    assert alone(texts)["input_ids"] == whole(texts)["input_ids"]
    assert (alone.bos_token_id, alone.unk_token_id) == (whole.bos_token_id, whole.unk_token_id)


def test_a_hub_that_is_not_reached_is_one_sentence_with_the_alias_that_was_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class ConnectError(Exception):
        """What the hub's HTTP client raises: no OSError."""

    def fail(*_: object, **__: object) -> None:
        raise ConnectError("name not known\nand much advice")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", fail)
    with pytest.raises(ModelError) as refusal:
        _ = resolve("smollm2-135").digest
    assert "name not known; did you mean smollm2-135m?" in str(refusal.value)


def test_weights_are_read_straight_to_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[dict[str, Any]]()
    loader = Loader(resolve(str(save(tmp_path))), "cpu", "float32")

    def loading(_: Loader, kind: Any, **arguments: Any) -> Any:
        asked.append(arguments)
        return tiny("llama"), {"missing_keys": []}

    monkeypatch.setattr(Loader, "load", loading)
    monkeypatch.setattr(load, "place", lambda model, device: model)
    cuda = torch.device("cuda:0")
    loader.base()
    monkeypatch.setattr(load, "choose_device", lambda _: cuda)
    loader.base()
    assert [one.get("device_map") for one in asked] == [None, {"": cuda}]
    monkeypatch.setattr(load, "find_spec", lambda _: None)
    assert load._straight(cuda) == {}


def test_a_device_map_of_one_device_leaves_a_plain_model(tmp_path: Path) -> None:
    """What `_straight` asks of transformers, on the device that is here."""
    loader = Loader(resolve(str(save(tmp_path))), "cpu", "float32")
    straight = loader.load(load.AutoModelForCausalLM, dtype=torch.float32, device_map={"": torch.device("cpu")})
    plain = loader.load(load.AutoModelForCausalLM, dtype=torch.float32)
    assert not any(hasattr(module, "_hf_hook") for module in straight.modules())
    row = BatchRow(Context((0,)), list(range(3, 40)))
    np.testing.assert_array_equal(*(causal_scorer(place(one, CPU)).score([row])[0] for one in (straight, plain)))


@pytest.mark.parametrize("kind", [BertModel, BertForMaskedLM])
def test_a_model_that_reads_both_ways_is_told_before_its_weights_are_loaded(kind: Any, tmp_path: Path) -> None:
    save_encoder(tmp_path, "bert", PROSE.splitlines())
    kind(AutoConfig.from_pretrained(tmp_path)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a bert, which reads no text from left to right"):
        Loader(resolve(str(tmp_path)), "cpu").require("causal")


def test_a_language_model_without_its_head_is_refused_instead_of_given_a_random_one(tmp_path: Path) -> None:
    save(tmp_path)
    AutoModel.from_pretrained(tmp_path).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"is no language model \(it has no lm_head.weight\); give one"):
        Loader(resolve(str(tmp_path)), "cpu").scorer("causal")


_HOLDING = """
import fcntl, sys
with open(sys.argv[1], "a") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("in", flush=True)
    sys.stdin.read()
"""


def test_one_process_of_a_node_reads_weights_for_a_gpu_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    command, pipe, entered = (
        [sys.executable, "-c", _HOLDING, str(tmp_path / f"lingua-loading-{os.getuid()}.lock")],
        subprocess.PIPE,
        threading.Event(),
    )

    def enter() -> None:
        with load._in_turn(torch.device("cuda")):
            entered.set()

    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "in\n"
        with load._in_turn(torch.device("cpu")):
            second = threading.Thread(target=enter)
        second.start()
        assert not entered.wait(0.3)
        first.kill()  # a lock ends with its process, however that ends
        assert entered.wait(100)
    second.join()


def test_a_folder_that_cannot_hold_a_lock_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/no/such/folder")
    with load._in_turn(torch.device("cuda")):
        pass


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "all_of_them"), [("llama", True), ("qwen2", True), ("gemma2 softcap", False)])
def test_normalisations_are_fused_where_that_computes_the_same(
    name: str, all_of_them: bool, dtype: torch.dtype
) -> None:
    model = tiny(name).to(dtype)
    ids = torch.arange(3, 40)[None]
    before = model(input_ids=ids).logits.float()
    norms = sum(type(module).__name__.endswith("RMSNorm") for module in model.modules())
    assert fuse_norms(model) == (norms if all_of_them else 0)
    assert norms > 0
    after = model(input_ids=ids).logits.float()
    torch.testing.assert_close(after, before, atol=1e-4 if dtype == torch.float32 else 0.1, rtol=0.05)
