"""A model's name finds it, on the device and in the type asked for; what is wrong is said with the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lingua.errors import ModelError
from lingua.models.load import Loader, choose_device, choose_dtype
from lingua.models.source import resolve
from tests.models import save


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


def test_a_directory_is_digested_by_its_content(tmp_path: Path) -> None:
    first, second = save(tmp_path / "first"), save(tmp_path / "second")
    assert resolve(str(first)).digest == resolve(str(second)).digest
    with (second / "config.json").open("a") as stream:
        stream.write("\n")
    assert resolve(str(first)).digest != resolve(str(second)).digest


def test_threads_wait_asleep_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import os

    import lingua.models

    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    importlib.reload(lingua.models)
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    importlib.reload(lingua.models)
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


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
