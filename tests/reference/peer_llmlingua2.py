"""Run by the peer's own interpreter: what `llmlingua` 0.2.2 makes of texts, and the numbers it hides on the way.

    python peer_llmlingua2.py MODEL CALLS.json ANSWERS.json

A call is {"text", "options"}; its answer has the compressed text, the words as the tokenizer writes them, for each
chunk and word the probabilities of the word's tokens, and which words are kept.
"""

import json
import os
import sys
import tempfile
from typing import Any


def main(model: str, calls: str, answers: str) -> None:
    from llmlingua import PromptCompressor  # type: ignore[import-not-found]  # noqa: TID251 - this is the peer

    compressor = PromptCompressor(
        model, device_map="cpu", use_llmlingua2=True, model_config={"trust_remote_code": False}
    )
    compressor.model.eval()
    with open(calls, encoding="utf-8") as file:
        found = [answer(compressor, call) for call in json.load(file)]
    with open(answers, "w", encoding="utf-8") as file:
        json.dump(found, file)


def answer(compressor: Any, call: dict[str, Any]) -> dict[str, Any]:
    """The call's answer, with what one of the library's private methods finds."""
    merged: list[tuple[list[Any], ...]] = []
    watch(compressor, "_PromptCompressor__merge_token_to_word", merged)
    try:
        options = {"return_word_label": True, "word_sep": "\x1e", "label_sep": "\x1f"} | call["options"]
        found = compressor.compress_prompt([call["text"]], **options)
    finally:
        del compressor._PromptCompressor__merge_token_to_word
    pairs = [pair.split("\x1f") for pair in found["fn_labeled_original_prompt"].split("\x1e")]
    return {
        "text": found["compressed_prompt"],
        "words": [word for words, _, _ in merged for word in words],
        "probabilities": [[list(map(float, word)) for word in words] for _, words, _ in merged],
        "kept": [label == "1" for _, label in pairs],
    }


def watch(compressor: Any, name: str, seen: list[tuple[list[Any], ...]]) -> None:
    """Note copies of what the method returns."""
    method = getattr(compressor, name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        seen.append(tuple(map(list, result)))
        return result

    setattr(compressor, name, watched)


if __name__ == "__main__":
    sys.path.append(os.getcwd())
    from jobs.peer_main import offer_cl100k

    with tempfile.TemporaryDirectory() as folder:
        offer_cl100k(folder)
        main(*sys.argv[1:])
