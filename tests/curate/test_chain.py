from __future__ import annotations

import socket
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from datagen.curate.chain import DATATROVE, HOUSE, Chain, build_chain, describe_filters
from datagen.curate.language import language_filter, language_rule
from datagen.errors import DataError, WorkspaceError
from datagen.record import Record
from datagen.workspace.specs import ChainSpec, CorpusSpec
from tests.curate.support import PROSE, ROOT, chat, data_rows, record, sample_rows

GERMAN = (
    "Der Hafen der alten Stadt wurde in drei Abschnitten gebaut, die man noch heute sieht. " * 5
)


def resolve(name: str, *, where: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    try:
        found: Callable[..., Any] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise WorkspaceError(str(error), where=where) from error
    return found


def chain_of(*filters: str | tuple[str, dict[str, Any]]) -> Chain:
    links = [
        {"use": f} if isinstance(f, str) else {"use": f[0], "arguments": f[1]} for f in filters
    ]
    spec = ChainSpec.model_validate({"name": "test", "title": "Test", "filters": links})
    return build_chain(spec, resolve)


def shipped(name: str) -> Chain:
    path = ROOT / "filters" / f"{name}.yaml"
    return build_chain(ChainSpec(**yaml.safe_load(path.read_text())), resolve, str(path))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a filter asked for the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def always(record: Record, *, word: str) -> str | None:
    """Refuse a word."""
    return word if word in (record.text or "") else None


ALWAYS = f"{__name__}:{always.__name__}"


def broken(record: Record) -> str | None:
    return f"{1 // len(record.metadata)}"


def test_the_first_reason_wins_and_names_the_filter() -> None:
    chain = chain_of(("text.too_short", {"min_words": 3}), "datatrove.GopherQuality")
    assert chain.judge(record("two words")) == ("too_short", "2 words")
    assert chain.judge(record("now three words")) == ("gopher_quality", "gopher_short_doc")
    assert chain.judge(record(PROSE)) is None
    assert chain_of().judge(record("")) is None


def test_an_extension_is_named_by_module_and_function() -> None:
    chain = chain_of((ALWAYS, {"word": "bay"}))
    assert chain.judge(record(PROSE)) == ("always", "bay")


@pytest.mark.parametrize(
    ("use", "arguments", "message"),
    [
        ("text.too_shrt", {}, "did you mean 'text.too_short'"),
        ("text.record_text", {}, "no filter"),
        ("text._words", {}, "no filter"),
        ("nonsense", {}, "no filter"),
        ("datatrove.Gopher", {}, "no filter"),
        ("no_such_package:function", {}, "no filter"),
        ("text.too_short", {"min_word": 3}, "min_word"),
        ("text.too_short", {"min_words": "many"}, "min_words|integer"),
        (ALWAYS, {}, "word"),
        ("datatrove.GopherQuality", {"min_words": 3}, "min_words"),
        ("datatrove.GopherQuality", {"exclusion_writer": None}, "exclusion_writer"),
        ("datatrove.GopherQuality", {"language": "klingon"}, "klingon"),
    ],
)
def test_a_bad_link_says_where_and_what_to_do(
    use: str, arguments: dict[str, Any], message: str
) -> None:
    links = [{"use": "text.too_short"}, {"use": use, "arguments": arguments}]
    spec = ChainSpec.model_validate({"name": "test", "title": "Test", "filters": links})
    for where, place in ((None, "filters/test.yaml, filter 2"), (["a:3", "a:4"], "a:4")):
        with pytest.raises(WorkspaceError, match=message) as caught:
            build_chain(spec, resolve, where)
        assert caught.value.where == place
        assert caught.value.fix == "datagen list filters"


def test_a_filter_that_fails_names_itself_and_the_record() -> None:
    with pytest.raises(DataError, match=r"record r7: filter 'broken' failed: ZeroDivisionError"):
        chain_of(f"{__name__}:{broken.__name__}").judge(record("text", "r7"))


def test_every_filter_is_described() -> None:
    found = {info.name: info for info in describe_filters(resolve)}
    assert {name.partition(".")[0] for name in found} == {*HOUSE, "datatrove"}
    assert {f"datatrove.{name}" for name in DATATROVE} <= set(found)
    assert found["text.too_short"].arguments == ("min_words=20",)
    for info in found.values():
        assert info.doc.startswith(("Refuse", "Write")) and info.doc.endswith(".")
        assert "exclusion_writer=None" not in info.arguments


def texts() -> list[str]:
    rows = [
        row["text"] for name in ("finewiki", "math", "multilingual") for row in sample_rows(name)
    ]
    noisy = ["", "\n\n", "word", "- a\n- b\n- c\n" * 20, "lorem ipsum dolor sit amet. " * 9]
    noisy += ["if (x) { return; } " * 20, f"{PROSE}\n{PROSE}\n{PROSE}", "the same line\n" * 40]
    return [*rows, *noisy, PROSE, GERMAN]


def direct(name: str, text: str) -> bool:
    """What datatrove itself says."""
    from datatrove.data import Document
    from datatrove.pipeline import filters

    verdict = getattr(filters, f"{name}Filter")().filter(Document(text=text, id="0"))
    return bool(verdict[0] if isinstance(verdict, tuple) else verdict)


@pytest.mark.parametrize("name", sorted(set(DATATROVE) - {"Language"}))
def test_datatrove_by_name_is_datatrove(name: str) -> None:
    chain = chain_of(f"datatrove.{name}")
    found = [chain.judge(record(text)) is None for text in texts()]
    assert found == [direct(name, text) for text in texts()]
    assert len(set(found)) == 2


@pytest.mark.parametrize("name", sorted(set(DATATROVE) - {"Language"}))
def test_datatrove_by_name_is_datatrove_on_real_pages(name: str) -> None:
    chain = chain_of(f"datatrove.{name}")
    for row in data_rows("wiki/wikipedia_en_articles.jsonl.gz", 25):
        page = row["text"][:20_000]
        assert (chain.judge(record(page)) is None) == direct(name, page)


def test_arguments_reach_the_block_and_lists_become_tuples() -> None:
    strict = chain_of(("datatrove.FineWebQuality", {"stop_chars": ["%"]}))
    assert strict.judge(record(PROSE)) == ("fine_web_quality", "line_punct_ratio")
    assert chain_of("datatrove.FineWebQuality").judge(record(PROSE)) is None


def test_a_block_that_edits_its_document_changes_nothing() -> None:
    page = record(f"{PROSE}\nno full stop here")
    chain = chain_of("datatrove.C4Quality", "datatrove.GopherQuality")
    assert chain.judge(page) is None
    assert page.text == f"{PROSE}\nno full stop here"


def test_languages_are_told_apart_without_a_download() -> None:
    english = chain_of(("datatrove.Language", {"languages": ["en"]}))
    assert english.judge(record(PROSE)) is None
    reason, detail = english.judge(record(GERMAN)) or ("", "")
    assert reason == "language"
    assert detail.startswith("de ")
    either = chain_of(("datatrove.Language", {"languages": ["en", "de"]}))
    assert either.judge(record(GERMAN)) is None


def test_languages_of_real_paragraphs() -> None:
    from datatrove.data import Document

    rows = data_rows("wiki/xquad_paragraphs.jsonl.gz")
    languages = sorted({row["language"] for row in rows})
    chains = {
        language: chain_of(("datatrove.Language", {"languages": [language]}))
        for language in languages
    }
    block, rule = language_filter("en"), language_rule("en")
    for row in rows[::60]:
        for language, chain in chains.items():
            kept = chain.judge(record(row["context"])) is None
            assert kept == (language == row["language"])
        document = Document(text=row["context"], id="0")
        assert bool(block.filter(document)) == (row["language"] == "en")
        assert (rule(row["context"]) is None) == (row["language"] == "en")


@pytest.mark.parametrize(
    ("name", "sources", "share"),
    [
        ("prose", ("finewiki", "crawl_high", "crawl_medium", "syn_crawl_high", "academic"), 0.95),
        ("technical", ("math", "nemotron_cc_code"), 1.0),
        ("multilingual", ("multilingual",), 1.0),
        ("code", ("code",), 1.0),
    ],
)
def test_shipped_chains_keep_the_bundled_samples(
    name: str, sources: tuple[str, ...], share: float
) -> None:
    chain = shipped(name)
    rows = [row.get("text") or row.get("content") for s in sources for row in sample_rows(s)]
    kept = [chain.judge(record(text)) is None for text in rows]
    assert sum(kept) >= share * len(kept)


def test_shipped_chat_chain_keeps_the_bundled_conversations() -> None:
    chain = shipped("chat")
    for name in ("sft_stem", "sft_code", "sft_general"):
        for row in sample_rows(name):
            turns = [(turn["role"], turn["content"]) for turn in row["messages"]]
            assert chain.judge(chat(*turns)) is None
    assert chain.judge(chat(("user", "Tell me"), ("assistant", ""))) == (
        "empty_turn",
        "turn 2 (assistant)",
    )


def test_shipped_question_chain() -> None:
    chain = shipped("qa")
    good = {
        "statement": "Ada Lovelace wrote the first program.",
        "context": "Ada Lovelace wrote the first program in 1843.",
        "question": "Who wrote the first program for an engine?",
        "answer": "Ada Lovelace",
        "form": "multiple_choice",
        "options": ["Charles Babbage", "Ada Lovelace", "Alan Turing", "Grace Hopper"],
        "answer_letter": "B",
    }
    text = f"{good['question']} {good['answer']}"
    assert chain.judge(record(text, **good)) is None
    for change, reason in (
        ({"question": "Who wrote the program in the passage?"}, "points_at_passage"),
        ({"question": "When did she write this?"}, "subject_unnamed"),
        ({"question": "What did Ada Lovelace write?"}, "answer_in_question"),
        ({"answer": "Alan Turing"}, "answer_not_in_context"),
        ({"options": ["Ada", "ada"]}, "options_alike"),
        ({"question": "Ada wrote it"}, "not_a_question"),
    ):
        assert (chain.judge(record(text, **{**good, **change})) or ("",))[0] == reason


def test_shipped_files_are_named_as_they_are_filed() -> None:
    for path in Path(ROOT / "filters").glob("*.yaml"):
        assert shipped(path.stem).name == path.stem
    corpus = yaml.safe_load((ROOT / "filters" / "corpus" / "corpus.yaml").read_text())
    assert CorpusSpec(**corpus).name == "corpus"
