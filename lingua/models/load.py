"""Model name → tokenizer, and scorer on a device: hub id, local directory, GGUF file or installed package.

A GGUF file is converted to an ordinary model directory in the local cache once per node: that loads in a second, not in
half a minute. Its tokenizer gets a directory of its own where nobody asked for the weights: a method without a language
model converts none. The cache is ``$LINGUA_CACHE``, else ``~/.cache/lingua``; entries are named by the digest of the
file and may be deleted.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from filelock import FileLock
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer
from transformers.utils import logging

from lingua.engine.score import Needs, Scorer
from lingua.errors import LinguaError, ModelError
from lingua.explain import in_words
from lingua.models.encoders import CrossEncoder, Embedder, EncoderScorer, Judge, StateScorer, pools_first
from lingua.models.sizing import USUAL, Allowance
from lingua.models.source import ModelSource, cache_directory
from lingua.models.trial import causal_scorer

WEIGHTS = ("*.safetensors", "*.bin")
_EXAMPLE = "microsoft/llmlingua-2-xlm-roberta-large-meetingbank"
_PURPOSES = {
    "causal": "reads no text from left to right: this method needs a causal language model",
    "encoder": f"cannot classify tokens: give one like {_EXAMPLE}",
    "sentences": "has no states of tokens: give an encoder of sentences",
}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads what a model name stands for. All methods raise ModelError with the cause."""

    source: ModelSource
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False

    def tokenizer(self) -> Any:
        return self.load(AutoTokenizer)

    def require(self, needs: Needs) -> None:
        """ModelError unless the tokenizer loads and the rest looks like a model that `needs`; no weights are loaded."""
        self.tokenizer()
        if self.source.gguf and needs == "encoder":
            raise ModelError(f"model {self.source.name!r} is a language model in a GGUF file, which {_PURPOSES[needs]}")
        if needs == "nothing" or self.source.gguf:
            return
        found = self.load(AutoConfig)
        kind: Any = {"causal": AutoModelForCausalLM, "encoder": AutoModelForTokenClassification}.get(needs, AutoModel)
        custom = kind.__name__ in (getattr(found, "auto_map", None) or {})
        # (asked whether it is empty, the mapping would import the configuration of every architecture)
        known = custom or type(found) in kind._model_mapping
        if not known or (needs == "causal" and _reads_both_ways(found)):
            raise ModelError(f"model {self.source.name!r} is a {found.model_type or 'model'}, which {_PURPOSES[needs]}")
        if self.source.local:
            self._require_weights(Path(self.source.location))

    def _require_weights(self, folder: Path) -> None:
        files = [path for name in WEIGHTS for path in sorted(folder.glob(name))]
        if not files:
            raise ModelError(f"model {self.source.name!r} has no weights: no {' or '.join(WEIGHTS)} in its directory")
        for path in files:
            try:
                _read_head(path)
            except Exception as error:  # whatever their readers raise
                fault = f"{path} holds no weights that can be read: {in_words(error)[:150]}"
                remedy = "download it again, or save the model as safetensors"
                raise ModelError(f"model {self.source.name!r}: {fault}; {remedy}") from error

    def scorer(self, needs: Literal["causal", "encoder", "sentences"], allowance: Allowance = USUAL) -> Scorer:
        """The model on its device, ready to answer the engine."""
        if needs == "sentences":
            device = choose_device(self.device)
            judge = Judge.trained(device) if self.source.judged else None
            return StateScorer(self.base, self.tokenizer(), device, judge)
        if needs == "encoder":
            purpose = "token classifier", f"to keep or drop tokens, such as {_EXAMPLE}"
            return EncoderScorer(self._placed(AutoModelForTokenClassification, purpose), self.tokenizer(), allowance)
        return causal_scorer(self.causal(), allowance)

    def causal(self) -> Any:
        return self._placed(AutoModelForCausalLM, ("language model", "to predict a token from those before"))

    def base(self) -> Any:
        return self._placed(AutoModel)

    def embedder(self) -> Embedder:
        """The model as one that embeds sentences."""
        return Embedder(self.base(), self.tokenizer(), pools_first(self.source))

    def cross_encoder(self) -> CrossEncoder:
        """The model as one that says how well two texts belong together."""
        purpose = "cross-encoder", "to rank documents, such as cross-encoder/ms-marco-MiniLM-L6-v2"
        return CrossEncoder(self._placed(transformers.AutoModelForSequenceClassification, purpose), self.tokenizer())

    def _placed(self, kind: Any, purpose: tuple[str, str] | None = None) -> Any:
        """A model on its device. One that lacks weights would get random ones: with a `purpose` it is refused."""
        device = choose_device(self.device)
        dtype = choose_dtype(self.dtype, device)
        with _in_turn(device):
            model, report = self.load(kind, dtype=dtype, output_loading_info=True, **_straight(device))
            model = place(model, device)
        if purpose and (missing := sorted(report["missing_keys"])):
            fault = f"is no {purpose[0]} (it has no {missing[0]}); give one that was trained {purpose[1]}"
            raise ModelError(f"model {self.source.name!r} {fault}")
        return model

    def load(self, kind: Any, **arguments: Any) -> Any:
        """What a class of transformers makes of the model's files, given these arguments of `from_pretrained`."""
        with _quietly(), _explained(self.source):
            source = self.source
            if source.gguf:
                source = tokenizer_of(source) if kind is AutoTokenizer else converted(source)
            arguments |= {"trust_remote_code": self.trust_remote_code, **source.load_arguments}
            return kind.from_pretrained(source.location, **arguments)


def _reads_both_ways(config: Any) -> bool:
    """Whether a model that could read from left to right alone was trained otherwise, as BERT and its kin are."""
    decodes = getattr(config, "is_encoder_decoder", False) or getattr(config, "is_decoder", True)
    return not decodes and not re.search("CausalLM|LMHead|^$", " ".join(config.architectures or ()))


def place(model: Any, device: torch.device) -> Any:
    """A model on its device, for inference. Changes the model."""
    model = model.to(device).eval().requires_grad_(False)
    if device.type == "cuda":
        fuse_norms(model)
    return model


class FusedNorm(nn.Module):
    """A root-mean-square normalisation in one kernel, where transformers' own takes eight over float32 copies."""

    weight: Tensor
    variance_epsilon: float

    def forward(self, hidden: Tensor) -> Tensor:
        return F.rms_norm(hidden, self.weight.shape, self.weight, self.variance_epsilon)


@torch.no_grad()
def fuse_norms(model: nn.Module) -> int:
    """Let torch compute those normalisations that it computes as they do themselves; how many. Changes the model."""
    fused = 0
    module: Any
    for module in model.modules():
        if hasattr(module, "variance_epsilon") and type(module).__name__.endswith("RMSNorm"):
            sample = torch.linspace(-3, 3, 5 * len(module.weight)).view(5, -1).to(module.weight)
            kind, wanted = type(module), module(sample)
            module.__class__ = FusedNorm
            close = 1e-5 if sample.dtype == torch.float32 else 0.02
            if torch.allclose(module(sample), wanted, atol=close, rtol=close):
                fused += 1
            else:
                module.__class__ = kind
    return fused


def _straight(device: torch.device) -> dict[str, Any]:
    """Arguments with which transformers reads weights to a GPU tensor by tensor; without accelerate it cannot."""
    return {"device_map": {"": device}} if device.type != "cpu" and find_spec("accelerate") else {}


@contextlib.contextmanager
def _in_turn(device: torch.device) -> Iterator[None]:
    """One process of a node after the other reads weights for a GPU: each may need them in the host's memory meanwhile.

    The lock ends with its process, however that ends.
    """
    with contextlib.ExitStack() as stack:
        if device.type != "cpu":
            with contextlib.suppress(OSError):  # a temporary folder that cannot be written: then all at once
                stack.enter_context(FileLock(Path(tempfile.gettempdir()) / f"lingua-loading-{os.getuid()}.lock"))
        yield


def choose_device(device: str) -> torch.device:
    """``auto``: the GPU if there is one. Raises ModelError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        fault = f"device {device!r} cannot be used: {in_words(error)}"
        raise ModelError(f"{fault}; leave device out, or give 'cpu'") from error
    return chosen


def require_device(device: str) -> None:
    """ModelError for a device that is not there; none is taken into use."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        choose_device(device)
    elif int(index or 0) >= (count := torch.cuda.device_count()):
        there = f"there are {count} GPUs" if torch.cuda.is_available() else "torch finds no GPU here"
        raise ModelError(f"device {device!r} cannot be used: {there}; leave device out, or give 'cpu'")


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """``auto``: bfloat16 on CUDA and on CPUs that multiply it in hardware, else float32."""
    if dtype == "auto":
        known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        fast = device.type == "cuda" or any(known.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))
        return torch.bfloat16 if fast else torch.float32
    if dtype not in _DTYPES:
        raise ModelError(f"dtype {dtype!r} is not one of auto, {', '.join(_DTYPES)}")
    return _DTYPES[dtype]


def _read_head(path: Path) -> None:
    """What a file of weights says of itself; neither is a tensor read nor code that a pickle may hold run."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            file.keys()
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickles that are refused then
        torch.load(path, map_location="meta", weights_only=True)


@contextlib.contextmanager
def _explained(source: ModelSource) -> Iterator[None]:
    try:
        yield
    except LinguaError:
        raise
    except Exception as error:  # on broken files the libraries let through whatever their readers raise
        fault = f"cannot be loaded from {source.location}: {in_words(error)[:200]}"
        remedy = "give a complete model directory (config.json, tokenizer, *.safetensors), a GGUF file or a hub id"
        raise ModelError(f"model {source.name!r} {fault}; {remedy}") from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the library's progress bars and its guesses about broken files out of job logs."""
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def converted(source: ModelSource) -> ModelSource:
    """A GGUF file as a directory with safetensors and tokenizer, made in float32 on first use; others as they are."""
    return _once(source, _folder(source), _convert) if source.gguf else source


def tokenizer_of(source: ModelSource) -> ModelSource:
    """The model's tokenizer alone as a directory; that of the converted model where there is one."""
    folder = _folder(source)
    return _once(source, folder if folder.is_dir() else folder.with_name(f"{folder.name}-tokenizer"), _save_tokenizer)


def _folder(source: ModelSource) -> Path:
    return cache_directory() / f"{Path(source.gguf or source.name).stem}-{source.digest[:12]}"


def _once(source: ModelSource, folder: Path, write: Callable[[ModelSource, Path], None]) -> ModelSource:
    """The folder, filled by whoever comes first."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                draft = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
                try:
                    write(source, draft)
                    draft.rename(folder)
                finally:
                    shutil.rmtree(draft, ignore_errors=True)
    return ModelSource(source.name, str(folder))


def _convert(source: ModelSource, folder: Path) -> None:
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar cannot be switched off
        model = AutoModelForCausalLM.from_pretrained(source.location, gguf_file=source.gguf, dtype=torch.float32)
    _unquantised(model).save_pretrained(folder)
    _save_tokenizer(source, folder)


def _save_tokenizer(source: ModelSource, folder: Path) -> None:
    AutoTokenizer.from_pretrained(source.location, gguf_file=source.gguf).save_pretrained(folder)


def _unquantised(model: Any) -> Any:
    """A model loaded from GGUF calls itself quantised and will not be saved; a fresh one with its weights will."""
    settings = {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    config = type(model.config).from_dict(settings)
    fresh: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    fresh.load_state_dict(model.state_dict())
    return fresh
