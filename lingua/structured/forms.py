"""The forms of conversations as tables: which key of which message or part holds what. `conversation` reads by them.

After the types of the providers' own libraries: OpenAI (Chat Completions, Responses), Anthropic, Gemini, Bedrock
Converse, Cohere, Mistral; and of LangChain, the AI SDK and ShareGPT. A part that stands in no table is not understood.
What is no text to the model (ids, dates, base64) is told by its key and by its look: prose under such a key is text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
Use = str | Mapping[str, "Use"]
"""What a value is read as; a mapping: an object with these keys.

text      a string that may be cut            blocks    text, a part, or a list of both
result    the same, said by a tool            object    JSON said by a tool: its prose may be cut, the rest is kept
whole     kept, objects as JSON text          strings   all strings within are kept, marks and what is encoded aside
calls     calls of tools, one or several      answers   Cohere's results of tools
source    of a document: text, or a place     copies    calls read already; ``copied``: their text
opaque    an image, sound, a file: what is encoded and marks within are no text, the rest is kept
mark      an id, a date, a word about a text: opaque as long as it looks like one, else kept
"""


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


def _each(names: str, use: T) -> dict[str, T]:
    return dict.fromkeys(names.split(), use)


LISTS = ("messages", "conversations", "conversation", "contents", "chat_history", "input")
"""Keys under which an object holds the list of its messages."""
CONTENTS = ("content", "value", "parts", "message", "text")
"""Keys of a message that hold what is said."""
ROLES = {
    **_each("user human prompter customer", "user"),
    **_each("assistant ai model gpt bot agent chatbot chatgpt bing bard", "assistant"),
    **_each("tool observation tool_response tool_result function_response ipython", "tool"),
    **_each("function_call tool_call", "call"),
    "system": "system",
    "developer": "developer",
    "function": "function",
}

ASIDE = _names(
    "metadata meta response_metadata usage_metadata usage cache_control annotations citations logprobs artifact "
    "header headers provider_options providerOptions providerMetadata extras prompt_cache_breakpoint "
    "video_metadata videoMetadata safety_ratings safetyRatings grounding_metadata groundingMetadata qualifiers"
)
"""Keys whose values are about a text: single words, dates and addresses within, at any depth, are marks."""
MARKS = _names(
    "id ids uuid type object role from signature thoughtSignature thought_signature encrypted_content data status "
    "encrypted_index redactedContent state model model_name language lang country hashed_ip timestamp time date "
    "created created_at updated_at create_time index finish_reason stop_reason stop_sequence mime_type mimeType "
    "media_type mediaType format detail namespace server_label phase channel hash sha256 bytes base64 lc example"
)
"""Keys whose single values are marks, if they look like one; so are those that end with ``id``."""
SEALED = _names(
    "signature thoughtSignature thought_signature encrypted_content encryptedContent encrypted_index "
    "redactedContent redacted_content"
)
"""Keys of signatures and encrypted texts: one word of any length is a mark."""
ENCODED = _names(
    "data base64 bytes b64 b64_json file_data fileData image image_url imageUrl imageBytes image_bytes audio video "
    "url uri result blob partial_image_b64"
)
"""Keys that hold base64 where the object around them is an image, sound or a file."""
SPOKEN = _names(
    "text transcript transcription caption title alt alt_text description content cited_text citedText body "
    "subject summary note comment message query input output answer question thinking reasoning "
    "reasoning_content refusal"
)
"""Keys of what is said: no mark, and nothing encoded, however it looks and wherever it stands."""
SOURCES = ("text", "content", "base64", "url", "file")
"""Types of a document's source."""

_CALLED: Mapping[str, Use] = _each("name toolName arguments args input parameters", "whole")
CALL: Mapping[str, Use] = {**_CALLED, **_each("function custom", _CALLED)}
_SOURCE: Use = {"source": "source"}

MEMBERS: Mapping[str, Use] = {
    "text": "text",
    **_each("functionCall function_call toolUse toolCall", CALL),
    **_each("functionResponse function_response toolResponse", {"response": "object", "output": "object"}),
    **_each("codeExecutionResult code_execution_result", {"output": "result"}),
    **_each("inlineData inline_data fileData file_data image video audio cachePoint", "opaque"),
    **_each("executableCode executable_code reasoningContent citationsContent guardContent", "strings"),
    **_each("toolAddition toolRemoval", "strings"),
    "toolResult": {"content": "result"},
    "json": "object",
    "document": _SOURCE,
    "searchResult": {"content": "blocks"},
}
"""Parts without a type, told by their key: Gemini's and Bedrock's."""

ITEMS: Mapping[str, Use] = {
    **_each(
        "function_call custom_tool_call tool_search_call mcp_call mcp_approval_request", {**CALL, "output": "result"}
    ),
    **_each(
        "function_call_output custom_tool_call_output local_shell_call_output apply_patch_call_output",
        {"output": "result"},
    ),
    "shell_call_output": {"output": "object"},
    "program_output": {"result": "result"},
    "code_interpreter_call": {"outputs": "object"},
    "file_search_call": {"results": "object"},
    "image_generation_call": {"result": "opaque"},
    "computer_call_output": {"output": "opaque"},
    **_each(
        "reasoning compaction web_search_call local_shell_call shell_call apply_patch_call computer_call program "
        "mcp_list_tools mcp_approval_response tool_search_output additional_tools item_reference compaction_trigger",
        "strings",
    ),
}
"""Items of OpenAI's Responses, which have a type and no role."""

PARTS: Mapping[str, Use] = {
    **ITEMS,
    **_each("text input_text output_text", {"text": "text"}),
    "text-plain": {"text": "text", "url": "mark"},
    **_each("tool_use server_tool_use mcp_tool_use tool_call tool-call tool_call_chunk", CALL),
    **_each("invalid_tool_call server_tool_call server_tool_call_chunk", CALL),
    **_each("tool_result mcp_tool_result", {"content": "result"}),
    **_each("server_tool_result server_tool_call_result tool-result", {"output": "object", "result": "object"}),
    "search_result": {"content": "blocks"},
    "document": _SOURCE,
    **_each(
        "refusal thinking summary_text reasoning_text web_search_tool_result web_search_result web_fetch_tool_result "
        "code_execution_tool_result bash_code_execution_tool_result text_editor_code_execution_tool_result "
        "tool_search_tool_result advisor_tool_result tool_reference mid_conversation_system non_standard",
        "strings",
    ),
    **_each(
        "image image_url input_image audio audio_url input_audio video video_url file file_url input_file document_url "
        "computer_screenshot media container_upload redacted_thinking reference fallback cache_point step-start",
        "opaque",
    ),
}
"""Parts of a message that are told by their type."""

MESSAGE: Mapping[str, Use] = {
    **dict.fromkeys(CONTENTS, "blocks"),
    **_each("tool_calls invalid_tool_calls function_call toolCalls", "calls"),
    "tool_results": "answers",
    "name": "whole",
    **_each("refusal reasoning reasoning_content reasoning_details thinking thinking_blocks tool_plan", "strings"),
    "additional_kwargs": "strings",
    "audio": "opaque",
}
COPY: Mapping[str, Use] = {"name": "mark", "arguments": "copied"}
"""A call of which LangChain keeps the provider's copy."""
ENVELOPE: Mapping[str, Use] = {
    **_each("system systemInstruction system_instruction instructions preamble message", "blocks"),
    **_each("tools functions", "whole"),
}
"""What stands beside the list of messages."""
ANSWER: Mapping[str, Use] = {"call": CALL, "outputs": "object"}
"""One of Cohere's `tool_results`."""


_ID = re.compile(r".*(?:_id|_ids|Id|Ids|ID)")
_WORD, _WORDS, _ADDRESS, _TOKEN = 128, 64, 4096, 32
"""Most characters of a mark that is one word, a date, a URL or a token of `logprobs`: longer ones are text."""
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Scripts without spaces, in which a sentence looks like one word."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[!-~]+")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(?:; *[\w-]+=[\w.\"-]+)*")
_DATED = (
    r"(?:[+-]?\d[\d:.,/TZ+-]*(?:st|nd|rd|th|[ap]m)?,?|at|[ap]\.?m\.?|utc|gmt|[ecmp][ds]t|ce[s]?t|bst"
    r"|(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?[.,]?"
    r"|(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)[.,]?)"
)
_DATE = re.compile(rf"(?=.*\d){_DATED}(?:\s+{_DATED})*", re.IGNORECASE)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{60,76}\r?\n)*[A-Za-z0-9+/_-]*={0,2}\s*")
"""In one line, or in lines as mail has them."""
_DATA_URL = re.compile(
    r"data:[a-z]+/[\w.+-]+(?:;[\w-]+=[\w.\"-]+)*;base64,[A-Za-z0-9+/_-]*={0,2}", re.ASCII | re.IGNORECASE
)
_MEDIA = ("media_type", "mime_type", "mediaType", "mimeType")


def is_no_text(key: object, text: str, *, aside: bool, coded: bool) -> bool:
    """Whether a string is no text to the model: encoded where that is said, or a mark that looks like one."""
    if key in SPOKEN:
        return False
    if key in SEALED and text.isascii() and len(text.split()) < 2:
        return True
    if _DATA_URL.fullmatch(text) or (coded and key in ENCODED and _BASE64.fullmatch(text)):
        return True
    return aside and _looks_like_a_mark(key, text.strip())


def _looks_like_a_mark(key: object, text: str) -> bool:
    """One word of bounded length, a URL, a date, or a media type."""
    if len(text.split()) > 1:
        return len(text) <= _WORDS and bool(_DATE.fullmatch(text) or _MEDIA_TYPE.fullmatch(text))
    if len(text) > _WORD:
        return len(text) <= _ADDRESS and _URL.fullmatch(text) is not None
    return not _UNSPACED.search(text) or (key == "token" and len(text) <= _TOKEN)


def is_encoded(holder: Mapping[str, Any]) -> bool:
    """Whether an object says that it holds base64: by its type, or a media type that is none of text."""
    kind = holder.get("type")
    if isinstance(kind, str) and re.search("base64|encrypted|redacted", kind):
        return True
    media = next((one for one in map(holder.get, _MEDIA) if isinstance(one, str)), "text/")
    return _MEDIA_TYPE.fullmatch(media) is not None and not media.startswith("text/")


def is_mark(key: object, value: Any) -> bool:
    """Whether a value is about a text, or may be a mark: none that holds objects is one by its key alone."""
    items = value if isinstance(value, (list, tuple)) else [value]
    nested = any(isinstance(item, (Mapping, list, tuple)) for item in items)
    named = key in MARKS or key in SEALED or _ID.fullmatch(str(key)) is not None
    return key in ASIDE or (named and not nested)
