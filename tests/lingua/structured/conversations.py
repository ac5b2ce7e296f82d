"""One conversation in every form that conversations are written in: four kinds of prose, a question, calls, marks."""

from __future__ import annotations

from typing import Any

from tests.lingua.structured.echo_face import PROSE

SIGNATURE = "EqoBCkgIARABGAIiQL8mNhT3TkMlj0tJ7Qb1cVw"
PIXELS = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ASK, ANSWER, LISTING, DRAFT = (f"{name}: {PROSE} {PROSE}" for name in ("Ask", "Answer", "Listing", "Draft"))
NEWEST = "And which of them is open on Sunday?"

CHAT_COMPLETIONS = [
    {"role": "developer", "content": "Be brief."},
    {
        "role": "user",
        "name": "ada",
        "content": [
            {"type": "text", "text": ASK},
            {"type": "input_audio", "input_audio": {"data": PIXELS, "format": "wav"}},
        ],
    },
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "They want hours.",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "hours", "arguments": '{"branch": "Harbour"}'}},
            {"id": "call_2", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": LISTING},
    {"role": "function", "name": "old", "content": LISTING},
    {
        "role": "assistant",
        "content": ANSWER,
        "refusal": None,
        "function_call": {"name": "older", "arguments": "{}"},
        "annotations": [],
    },
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot say."}]},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": NEWEST},
            {"type": "file", "file": {"file_id": "file-1", "filename": "a.pdf"}},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXELS}"}},
        ],
    },
]
RESPONSES = {
    "model": "gpt-5",
    "instructions": "Be brief.",
    "input": [
        {"role": "user", "content": ASK},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "They want hours."}],
            "encrypted_content": SIGNATURE,
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "hours",
            "arguments": '{"branch":"Harbour"}',
            "status": "completed",
        },
        {"type": "function_call_output", "call_id": "call_1", "output": LISTING},
        {
            "type": "function_call_output",
            "call_id": "call_2",
            "output": [
                {"type": "input_text", "text": LISTING},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PIXELS}"},
            ],
        },
        {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {"type": "search", "query": "hours of the library"},
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [
                {
                    "type": "output_text",
                    "text": ANSWER,
                    "annotations": [
                        {
                            "type": "url_citation",
                            "url": "https://example.org",
                            "title": "Hours",
                            "start_index": 0,
                            "end_index": 5,
                        }
                    ],
                }
            ],
        },
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": NEWEST}]},
    ],
}
ANTHROPIC = {
    "model": "claude-sonnet-4-5",
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "tools": [{"name": "hours", "description": "Opening hours", "input_schema": {"type": "object"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {
                    "type": "document",
                    "title": "Guide",
                    "source": {"type": "text", "media_type": "text/plain", "data": ASK},
                },
                {"type": "text", "text": ASK},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "They want hours.", "signature": SIGNATURE},
                {"type": "redacted_thinking", "data": SIGNATURE},
                {"type": "text", "text": ANSWER},
                {"type": "tool_use", "id": "toolu_1", "name": "hours", "input": {"branch": "Harbour", "id": "seven"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": LISTING}]},
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": NEWEST},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_2", "name": "hours", "input": {"branch": "Hill"}}],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_2",
                    "is_error": False,
                    "content": [
                        {"type": "text", "text": LISTING},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXELS}},
                    ],
                }
            ],
        },
    ],
}
GEMINI = {
    "system_instruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {"role": "user", "parts": [{"text": ASK}, {"inlineData": {"mimeType": "image/png", "data": PIXELS}}]},
        {
            "role": "model",
            "parts": [
                {"text": "They want hours.", "thought": True},
                {"functionCall": {"name": "hours", "args": {"branch": "Harbour"}}, "thoughtSignature": SIGNATURE},
            ],
        },
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "hours", "response": {"status": "open", "text": LISTING}}}],
        },
        {
            "role": "model",
            "parts": [
                {"text": ANSWER},
                {"executableCode": {"language": "PYTHON", "code": "print(7)"}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": LISTING}},
            ],
        },
        {"role": "user", "parts": [{"text": NEWEST}]},
    ],
}
SHAREGPT = {
    "id": "identity_0",
    "conversations": [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": ASK},
        {"from": "function_call", "value": '{"name": "hours", "arguments": {"branch": "Harbour"}}'},
        {"from": "observation", "value": LISTING},
        {"from": "gpt", "value": ANSWER, "weight": 1},
        {"from": "human", "value": NEWEST},
    ],
}
LANGCHAIN_DUMPED = [
    {
        "type": "system",
        "data": {"content": "Be brief.", "additional_kwargs": {}, "type": "system", "name": None, "id": None},
    },
    {"type": "human", "data": {"content": ASK, "additional_kwargs": {}, "type": "human", "example": False}},
    {
        "type": "ai",
        "data": {
            "content": "",
            "type": "ai",
            "additional_kwargs": {
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "hours", "arguments": '{"branch": "Harbour"}'},
                    }
                ]
            },
            "response_metadata": {"model_name": "gpt-5", "system_fingerprint": "fp_1"},
            "tool_calls": [{"name": "hours", "args": {"branch": "Harbour"}, "id": "c1", "type": "tool_call"}],
            "invalid_tool_calls": [],
        },
    },
    {
        "type": "tool",
        "data": {
            "content": LISTING,
            "type": "tool",
            "tool_call_id": "c1",
            "artifact": {"raw": "not-for-the-model"},
            "status": "success",
        },
    },
    {"type": "ai", "data": {"content": [ANSWER, {"type": "text", "text": DRAFT}], "type": "ai"}},
    {"type": "human", "data": {"content": NEWEST, "type": "human"}},
]
LANGCHAIN_FLAT = [
    {"type": "human", "content": ASK},
    {
        "type": "ai",
        "content": [
            {"type": "reasoning", "reasoning": "They want hours."},
            {"type": "text", "text": ANSWER},
            {"type": "tool_call", "id": "c1", "name": "hours", "args": {"branch": "Harbour"}},
        ],
    },
    {"type": "tool", "content": LISTING, "tool_call_id": "c1"},
    {"type": "human", "content": NEWEST},
]
LANGCHAIN_SERIALIZED = [
    {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "messages", "HumanMessage"],
        "kwargs": {"content": ASK, "type": "human"},
    },
    {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "messages", "AIMessage"],
        "kwargs": {"content": ANSWER, "tool_calls": []},
    },
    {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "messages", "HumanMessage"],
        "kwargs": {"content": NEWEST},
    },
]
LANGCHAIN_ROLES = [
    {"role": "human", "content": ASK},
    {"role": "ai", "content": ANSWER},
    {"role": "human", "content": NEWEST},
]
BEDROCK = {
    "modelId": "amazon.nova-pro-v1:0",
    "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"text": ASK},
                {"image": {"format": "png", "source": {"bytes": PIXELS}}},
                {"document": {"format": "txt", "name": "Guide", "source": {"text": ASK}}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "They want hours.", "signature": SIGNATURE}}},
                {"text": ANSWER},
                {"toolUse": {"toolUseId": "tooluse_1", "name": "hours", "input": {"branch": "Harbour"}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "toolResult": {
                        "toolUseId": "tooluse_1",
                        "status": "success",
                        "content": [{"text": LISTING}, {"json": {"open": True, "note": LISTING}}],
                    }
                }
            ],
        },
        {"role": "assistant", "content": [{"text": ANSWER}]},
        {"role": "user", "content": [{"text": NEWEST}]},
    ],
}
COHERE = {
    "preamble": "Be brief.",
    "chat_history": [
        {"role": "USER", "message": ASK},
        {"role": "CHATBOT", "message": ANSWER, "tool_calls": [{"name": "hours", "parameters": {"branch": "Harbour"}}]},
        {
            "role": "TOOL",
            "tool_results": [
                {"call": {"name": "hours", "parameters": {"branch": "Harbour"}}, "outputs": [{"text": LISTING}]}
            ],
        },
    ],
    "message": NEWEST,
}
MISTRAL = [
    {"role": "user", "content": ASK},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "They want hours."}]},
            {"type": "text", "text": ANSWER},
        ],
        "prefix": False,
    },
    {
        "role": "user",
        "content": [
            {"type": "text", "text": NEWEST},
            {"type": "image_url", "image_url": f"data:image/png;base64,{PIXELS}"},
        ],
    },
]
AGENT_LOG = [
    {"type": "user", "uuid": "6f1", "timestamp": "2026-01-05T10:00:00Z", "message": {"role": "user", "content": ASK}},
    {
        "type": "assistant",
        "uuid": "6f2",
        "message": {"id": "msg_1", "role": "assistant", "content": [{"type": "text", "text": ANSWER}]},
    },
    {"type": "user", "uuid": "6f3", "message": {"role": "user", "content": NEWEST}},
]
FORMS: dict[str, Any] = {
    "chat completions": CHAT_COMPLETIONS,
    "responses": RESPONSES,
    "anthropic": ANTHROPIC,
    "gemini": GEMINI,
    "sharegpt": SHAREGPT,
    "langchain, dumped": LANGCHAIN_DUMPED,
    "langchain, flat": LANGCHAIN_FLAT,
    "langchain, serialized": LANGCHAIN_SERIALIZED,
    "langchain, roles": LANGCHAIN_ROLES,
    "bedrock": BEDROCK,
    "cohere": COHERE,
    "mistral": MISTRAL,
    "agent log": AGENT_LOG,
    "wrapped": {"messages": CHAT_COMPLETIONS},
}
