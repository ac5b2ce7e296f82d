"""LangChain: `LinguaCompressor` shortens what a retriever found for a question, `LinguaTransformer` any documents.

The first goes where LangChain takes a document compressor (`ContextualCompressionRetriever`), the second where it takes
a transformer, before an index is filled, say. Documents are never changed in place; metadata and ids stay.
Install with ``pip install 'lingua-batch[langchain]'``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, BaseDocumentTransformer, Document
from pydantic import ConfigDict

from lingua.integrations.texts import compress_each, compress_together


class LinguaCompressor(BaseDocumentCompressor):
    """Compresses all documents found for a query together, under one budget; those that lose all text are left out.

    compressor   a `lingua.Compressor`
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    compressor: Any

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """The kept documents with shorter text. Raises lingua's PromptError when they cannot be compressed."""
        kept = compress_together(self.compressor, [document.page_content for document in documents], query)
        return [_with_text(documents[index], text) for index, text in kept]


class LinguaTransformer(BaseDocumentTransformer):
    """Compresses each document by itself; `compressor` is a `lingua.Compressor`."""

    def __init__(self, compressor: Any) -> None:
        self.compressor = compressor

    def transform_documents(self, documents: Sequence[Document], **kwargs: Any) -> Sequence[Document]:
        """As many documents as there were, in their order, with shorter text."""
        documents = list(documents)
        texts = compress_each(self.compressor, [document.page_content for document in documents])
        return [_with_text(document, text) for document, text in zip(documents, texts, strict=True)]


def _with_text(document: Document, text: str) -> Document:
    return document.model_copy(update={"page_content": text, "metadata": dict(document.metadata)})
