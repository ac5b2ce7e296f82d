"""LlamaIndex: `LinguaPostprocessor` shortens the nodes that a retriever found, before a model reads them.

Nodes are never changed in place; ids, scores, metadata and relationships stay, and nodes without text pass untouched.
Install with ``pip install 'lingua-batch[llamaindex]'``.
"""

from __future__ import annotations

from typing import Any

from llama_index.core.bridge.pydantic import Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, Node, NodeWithScore, QueryBundle, TextNode

from lingua.integrations.texts import compress_together


class LinguaPostprocessor(BaseNodePostprocessor):
    """Compresses all found nodes together, under one budget; those that lose all text are left out.

    compressor   a `lingua.Compressor`
    """

    compressor: Any = Field(exclude=True)

    @classmethod
    def class_name(cls) -> str:
        return "LinguaPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        found = [one for one in nodes if _text_of(one)]
        others = [one for one in nodes if not _text_of(one)]
        texts = [_text_of(one) for one in found]
        kept = compress_together(self.compressor, texts, query_bundle.query_str if query_bundle else "")
        return [*(_with_text(found[index], text) for index, text in kept), *others]


def _text_of(found: NodeWithScore) -> str:
    text = found.node.get_content(MetadataMode.NONE) if isinstance(found.node, (TextNode, Node)) else ""
    return text if text.strip() else ""


def _with_text(found: NodeWithScore, text: str) -> NodeWithScore:
    node = found.node.model_copy(deep=True)
    node.set_content(text)
    return NodeWithScore(node=node, score=found.score)
