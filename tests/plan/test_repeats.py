"""Lines, paragraphs and prompts that many records share, cut or refused in a build."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Tiny, prose

FOOTER = "This page may be copied by anybody who asks the harbour office first."


@pytest.fixture
def shop(tiny: Tiny) -> Tiny:
    """The tiny workspace with eight pages, a footer under seven of them."""
    lines = [
        json.dumps({"id": f"p{n}", "text": prose(f"r{n}", 40) + (f"\n\n{FOOTER}" if n else "")})
        for n in range(8)
    ]
    tiny.write("manifests/samples/pages.jsonl", "\n".join(lines) + "\n")
    return tiny


def rows(tiny: Tiny, query: str) -> list[dict[str, Any]]:
    ran = tiny.run("sql", query, "--json")
    assert ran.code == 0, ran.err
    return list(ran.json)


def build(tiny: Tiny, **corpus: Any) -> None:
    tiny.change("filters/corpus/corpus.yaml", **corpus)
    ran = tiny.run("build", "--mixture", "small", "--quiet")
    assert ran.code == 0, ran.err


def test_a_shared_passage_stays_in_one_record(shop: Tiny) -> None:
    build(shop, repeated_paragraphs={"min_documents": 7})
    found = rows(
        shop,
        f"SELECT contains(text, '{FOOTER}') AS footer, metadata->>'cut_characters' AS cut, "
        "count(*) AS n FROM records WHERE source = 'pages' GROUP BY ALL ORDER BY ALL",
    )
    assert [(row["footer"], row["cut"], row["n"]) for row in found] == [
        (False, str(len(FOOTER) + 2), 6),
        (False, None, 1),
        (True, None, 1),
    ]


def test_passages_that_too_few_share_stay_and_so_do_other_recipes(shop: Tiny) -> None:
    for spec in ({"min_documents": 8}, {"min_documents": 2, "recipes": ["note"]}):
        build(shop, repeated_lines=spec)
        query = f"SELECT count(*) AS n FROM records WHERE contains(text, '{FOOTER}')"
        assert rows(shop, query) == [{"n": 7}]


def test_a_record_of_shared_passages_alone_is_refused(shop: Tiny) -> None:
    pages = [f"{prose('same', 30)}\n{prose(f'other{n}', 40)}" for n in range(2)]
    pages.append(prose("same", 30))
    text = "\n".join(json.dumps({"id": f"q{n}", "text": page}) for n, page in enumerate(pages))
    shop.write("manifests/samples/pages.jsonl", text + "\n")
    build(shop, minhash=None, repeated_lines={"min_documents": 3})
    found = rows(shop, "SELECT reason, count(*) AS n FROM rejects GROUP BY ALL")
    assert {"reason": "only_repeats", "n": 1} in found


def test_the_result_does_not_depend_on_shards(shop: Tiny) -> None:
    texts = []
    for size in (2, 64):
        shop.change("datagen.yaml", profiles__here__seeds_per_shard=size)
        build(shop, repeated_lines={"min_documents": 3})
        texts.append(rows(shop, "SELECT id, text FROM records ORDER BY id"))
    assert texts[0] == texts[1]


def test_of_conversations_with_one_question_one_stays(shop: Tiny) -> None:
    asked = ["Why is the harbour closed?", "why is the HARBOUR closed ?", "And the bridge?"]
    lines = [
        json.dumps(
            {
                "id": f"c{n}",
                "messages": [
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": prose(f"answer{n}", 30)},
                ],
            }
        )
        for n, question in enumerate(asked)
    ]
    shop.write("manifests/samples/chats.jsonl", "\n".join(lines) + "\n")
    build(shop, same_prompts=True)
    found = rows(shop, "SELECT id FROM records WHERE source = 'chats'")
    refused = rows(shop, "SELECT detail FROM rejects WHERE reason = 'same_prompt'")
    assert len(found) == 2
    assert [
        row["detail"].removeprefix("the question of ") in [r["id"] for r in found]
        for row in refused
    ] == [True]
