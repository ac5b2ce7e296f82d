"""Finds the arguments of every `python -m jobs.compress` in a piece of shell, whatever it is wrapped in."""

from __future__ import annotations

import re
import shlex

COMMAND = ["python", "-m", "jobs.compress"]
_JOINED = re.compile(r"\\\n[#\s]*")
_FILLED = (
    (re.compile(r'"\$(\{\w+\[@\]\}|@)"'), ""),  # any number of further arguments
    (re.compile(r"\$\(\(.*?\)\)"), "8"),  # arithmetic
    (re.compile(r"\$\([^()]*\)"), "word"),  # the output of a command
    (re.compile(r"\$\{?\w+\}?"), "word"),  # a variable
    (re.compile(r"\{\{.*?\}\}"), "word"),  # a template of Airflow or Argo
)


def compress_arguments(text: str) -> list[list[str]]:
    """The arguments of each call, with placeholders for what only the shell knows."""
    text = _JOINED.sub(" ", text)
    for pattern, placeholder in _FILLED:
        text = pattern.sub(placeholder, text)
    return [arguments for line in text.splitlines() if "-m jobs.compress" in line for arguments in _of_line(line)]


def _of_line(line: str) -> list[list[str]]:
    lexer = shlex.shlex(line.lstrip("# "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    wrapped = [found for word in words if " -m jobs.compress" in word for found in compress_arguments(word)]
    starts = [at + 3 for at in range(len(words)) if words[at : at + 3] == COMMAND]
    return wrapped + [_until_operator(words[start:]) for start in starts]


def _until_operator(words: list[str]) -> list[str]:
    ends = [at for at, word in enumerate(words) if set(word) <= set("();<>|&")]
    return words[: ends[0]] if ends else words


def code_of(markdown: str) -> str:
    """The code blocks and spans of a page."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```\w*\n.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", prose)])
