"""The adapters for LangChain against the real library."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("langchain_core", reason="the extra 'langchain' is not installed")

from langchain_core.documents import BaseDocumentCompressor, BaseDocumentTransformer, Document

from lingua.errors import PromptError
from lingua.integrations.langchain import LinguaCompressor, LinguaTransformer
from tests.fakes import REJECT, FakeCompressor

FOUND = [
    Document(page_content="one two three four", metadata={"source": "a.txt"}, id="1"),
    Document(page_content="five six seven eight", metadata={"source": "b.txt"}, id="2"),
]


def test_found_documents_become_shorter_and_stay_who_they_are() -> None:
    compressor = LinguaCompressor(compressor=FakeCompressor())
    assert isinstance(compressor, BaseDocumentCompressor)
    shorter = compressor.compress_documents(FOUND, "what?")
    assert [(one.page_content, one.metadata["source"], one.id) for one in shorter] == [
        ("one three", "a.txt", "1"),
        ("five seven", "b.txt", "2"),
    ]
    assert FOUND[0].page_content == "one two three four"
    assert asyncio.run(compressor.acompress_documents(FOUND, "what?")) == shorter


def test_a_retriever_of_the_library_takes_it() -> None:
    retrievers = pytest.importorskip("langchain_classic.retrievers")
    from langchain_core.retrievers import BaseRetriever

    class Finds(BaseRetriever):  # type: ignore[misc, unused-ignore]
        def _get_relevant_documents(self, query: str, *, run_manager: object) -> list[Document]:
            return FOUND

    compressor = LinguaCompressor(compressor=FakeCompressor())
    retriever = retrievers.ContextualCompressionRetriever(base_compressor=compressor, base_retriever=Finds())
    assert [one.page_content for one in retriever.invoke("what?")] == ["one three", "five seven"]


def test_no_documents_and_empty_ones_are_fine() -> None:
    compressor = LinguaCompressor(compressor=FakeCompressor())
    assert compressor.compress_documents([], "what?") == []
    assert compressor.compress_documents([Document(page_content="")], "what?")[0].page_content == ""


def test_documents_that_cannot_be_compressed_are_an_error() -> None:
    with pytest.raises(PromptError, match=REJECT):
        LinguaCompressor(compressor=FakeCompressor()).compress_documents([Document(page_content=REJECT)], "what?")


def test_a_transformer_compresses_each_document_and_leaves_what_it_cannot(caplog: pytest.LogCaptureFixture) -> None:
    transformer = LinguaTransformer(FakeCompressor())
    assert isinstance(transformer, BaseDocumentTransformer)
    texts = [*FOUND, Document(page_content=f"{REJECT} of this", metadata={"n": 3})]
    shorter = transformer.transform_documents(texts)
    assert [one.page_content for one in shorter] == ["one three", "five seven", f"{REJECT} of this"]
    assert shorter[2].metadata == {"n": 3}
    assert "asked_for" in caplog.text


def test_a_document_that_is_no_text_is_left_as_it_is_and_any_iterable_is_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = Document(page_content="half of a pair: \ud83d")
    shorter = LinguaTransformer(FakeCompressor()).transform_documents(one for one in (broken, *FOUND))
    assert [one.page_content for one in shorter] == [broken.page_content, "one three", "five seven"]
    assert "invalid_unicode" in caplog.text


def test_documents_of_another_class_stay_of_it() -> None:
    class Page(Document):  # type: ignore[misc, unused-ignore]
        number: int

    (page,) = LinguaCompressor(compressor=FakeCompressor()).compress_documents(
        [Page(page_content="one two three four", number=7)], "what?"
    )
    assert (type(page), page.number, page.page_content) == (Page, 7, "one three")
