"""The adapter for LlamaIndex against the real library."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("llama_index.core", reason="the extra 'llamaindex' is not installed")

from llama_index.core.schema import Document as LlamaDocument
from llama_index.core.schema import ImageNode, IndexNode, MediaResource, Node, NodeWithScore, QueryBundle, TextNode

from lingua.integrations.llamaindex import LinguaPostprocessor
from tests.fakes import FakeCompressor

FOUND = [
    NodeWithScore(node=TextNode(id_="1", text="one two three four", metadata={"source": "a"}), score=0.9),
    NodeWithScore(node=ImageNode(id_="2", image="aGVsbG8="), score=0.8),
    NodeWithScore(node=TextNode(id_="3", text="five six seven eight"), score=0.7),
]


def test_found_nodes_become_shorter_and_stay_who_they_are() -> None:
    postprocessor = LinguaPostprocessor(compressor=FakeCompressor())
    shorter = postprocessor.postprocess_nodes(FOUND, QueryBundle("what?"))
    assert [(one.node.node_id, one.score, one.node.get_content()) for one in shorter] == [
        ("1", 0.9, "one three"),
        ("3", 0.7, "five seven"),
        ("2", 0.8, ""),
    ]
    assert shorter[0].node.metadata == {"source": "a"}
    assert FOUND[0].node.get_content() == "one two three four"


def test_all_kinds_of_nodes_with_text_become_shorter() -> None:
    kinds = [
        LlamaDocument(text="one two three four"),
        Node(text_resource=MediaResource(text="one two three four")),
        IndexNode(text="one two three four", index_id="7"),
    ]
    found = [NodeWithScore(node=node) for node in kinds]
    shorter = LinguaPostprocessor(compressor=FakeCompressor()).postprocess_nodes(found, query_str="what?")
    assert [one.node.get_content() for one in shorter] == ["one three"] * 3
    assert [type(one.node) for one in shorter] == [LlamaDocument, Node, IndexNode]


def test_a_question_may_be_a_string_or_missing_and_calls_may_be_asynchronous() -> None:
    postprocessor = LinguaPostprocessor(compressor=FakeCompressor())
    texts = [one.node.get_content() for one in postprocessor.postprocess_nodes(FOUND, query_str="what?")]
    assert [one.node.get_content() for one in postprocessor.postprocess_nodes(FOUND)] == texts
    later = asyncio.run(postprocessor.apostprocess_nodes(FOUND, query_str="what?"))
    assert [one.node.get_content() for one in later] == texts
