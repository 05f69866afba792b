from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from datagen.curate.decontaminate import Hit, find_hits
from datagen.curate.questions import BenchmarkIndex, load_benchmarks
from datagen.curate.words import word_form
from datagen.errors import DataError
from datagen.shards.sources import SourceFile
from datagen.workspace.specs import BenchmarkSpec, DecontaminateSpec
from tests.curate.support import PROSE, ROOT, data_rows, sample_rows

LONG = (
    "A gardener plants forty tulips in five equal rows and then adds one more row of the same "
    "length; how many tulips stand in the bed at the end of the day?"
)
ITEMS: list[dict[str, Any]] = [
    {"question": LONG, "choices": ["45", "48", "50", "forty-five and a half"], "answer_index": 1},
    {
        "question": "Which gas do plants take in?",
        "choices": ["oxygen", "carbon dioxide", "helium and argon in equal parts", "neon"],
        "answer_index": 1,
    },
    {
        "question": "The sun is responsible for",
        "choices": ["puppies learning new tricks", "plants sprouting and wilting"],
        "answer_index": 1,
    },
    {
        "question": "Which statement is true?",
        "choices": ["iron floats on mercury", "lead floats on water"],
        "answer_index": 0,
    },
    {
        "question": "Which statement is true?",
        "choices": ["the moon is a star", "the moon orbits the earth"],
        "answer_index": 1,
    },
    {
        "question": "Name it",
        "choices": [PROSE, "a harbour wall of the third kind"],
        "answer_index": 0,
    },
]
FIELDS = {"question": "question", "choices": "choices", "answer": "answer_index"}


def spec_of(name: str = "quiz", **changes: Any) -> BenchmarkSpec:
    values = {"name": name, "licence": "CC0-1.0", "files": ["*"], "fields": FIELDS, **changes}
    return BenchmarkSpec.model_validate(values)


def write(path: Path, rows: list[dict[str, Any]]) -> SourceFile:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SourceFile(path.name, path)


@pytest.fixture
def index(tmp_path: Path) -> BenchmarkIndex:
    file = write(tmp_path / "quiz.jsonl", ITEMS)
    return load_benchmarks([(spec_of(), [file])], DecontaminateSpec())


def only(text: str, index: BenchmarkIndex) -> Hit:
    (hits,) = find_hits([text], index)
    assert len(hits) == 1, hits
    return hits[0]


@pytest.mark.parametrize(
    ("plant", "tier"),
    [
        (LONG, "question"),
        (LONG.upper(), "question"),
        (LONG.replace(" ", "\n "), "question"),
        (f"“{LONG}”".replace(";", " —"), "question"),
        (" ".join(LONG.split()[:23]), "ngram_13"),
        (" ".join(LONG.split()[8:]), "ngram_13"),
        (" ".join(LONG.split()[:20]), "ngram_8"),
        (LONG.replace("adds", "puts in").replace("stand", "grow"), "ngram_8"),
        (f"Question: {LONG}\nA. 48\nB. 45\nAnswer: A", "question_answer"),
        (f"Q. {LONG}\n50, 45, forty-five and a half, or 48?", "options"),
    ],
)
def test_a_long_question_is_found_however_it_is_set(
    plant: str, tier: str, index: BenchmarkIndex
) -> None:
    for text in (plant, f"{PROSE} {plant}", f"{PROSE}\n\n{plant}\n\n{PROSE}"):
        hit = only(text, index)
        assert (hit.benchmark, hit.item, hit.tier) == ("quiz", "quiz.jsonl#0", tier)
        assert (hit.coverage == 1) == (not tier.startswith("ngram"))
        found = word_form(text[hit.start : hit.end])
        assert found in word_form(plant)
        assert len(found.split()) >= 13


def test_another_number_makes_another_question(tmp_path: Path) -> None:
    numbers = LONG.replace("forty", "40").replace("five", "5")
    index = load_benchmarks(
        [(spec_of(), [write(tmp_path / "quiz.jsonl", [{**ITEMS[0], "question": numbers}])])],
        DecontaminateSpec(),
    )
    assert only(numbers.replace("stand", "grow"), index).coverage >= 0.5
    assert find_hits([numbers.replace("40", "70"), numbers.replace("5", "6")], index) == [[], []]


def test_a_page_that_tells_what_a_question_asks_is_clean(tmp_path: Path) -> None:
    asked = "In which of the three stages was the harbour wall that is made of concrete drawn up?"
    told = "The harbour wall that is made of concrete drawn up by engineers carries the railway."
    fields = {"question": "question"}
    rows = [{"question": f"Who says that {told[:-1]}?"}, {"question": asked}]
    index = load_benchmarks(
        [(spec_of(fields=fields), [write(tmp_path / "quiz.jsonl", rows)])], DecontaminateSpec()
    )
    assert find_hits([f"{PROSE} {told} {PROSE}"], index) == [[]]
    cut = rows[0]["question"].rsplit(" ", 3)[0]
    assert only(f"{PROSE}\n{cut}\n{PROSE}", index).item == "quiz.jsonl#0"


def test_a_number_written_otherwise_is_the_same(tmp_path: Path) -> None:
    numbers = LONG.replace("forty", "1,040")
    rows = [{"question": numbers, "choices": ["a", "b"], "answer_index": 0}]
    index = load_benchmarks(
        [(spec_of(), [write(tmp_path / "quiz.jsonl", rows)])], DecontaminateSpec()
    )
    assert only(numbers.replace(",", ""), index).coverage >= 0.5
    assert find_hits([numbers.replace("1,040", "1,041")], index) == [[]]


def test_a_program_is_found_by_its_tokens(tmp_path: Path) -> None:
    prompt = (
        "from typing import List\n\ndef running_gap(numbers: List[float], limit: float) -> bool:\n"
        '    """Say whether two neighbours in the list lie further apart than allowed."""\n'
    )
    solution = (
        "    for left, right in zip(numbers, numbers[1:]):\n"
        "        if abs(left - right) > limit:\n            return True\n    return False\n"
    )
    rows = [{"prompt": prompt, "solution": solution}]
    spec = spec_of(fields={"question": "prompt", "answer": "solution"})
    index = load_benchmarks([(spec, [write(tmp_path / "c.jsonl", rows)])], DecontaminateSpec())
    bare = prompt.split('    """')[0] + solution.replace("    ", "\t")
    assert only(f"{PROSE}\n{bare}\n{PROSE}", index).tier == "code"
    assert only(prompt + "    pass", index).tier == "question"
    assert find_hits([solution, f"def other(numbers, limit):\n{solution}"], index) == [[], []]


def test_what_an_item_quotes_is_not_its_question(tmp_path: Path) -> None:
    asked = "Which of these aims did the writer of the letter most likely hope to reach by it?"
    told = f"This question refers to the following information.\n{PROSE} {PROSE}\n{asked}"
    rows = [{"question": told}, {"question": f"“{PROSE}” In what year was this written down?"}]
    file = write(tmp_path / "quiz.jsonl", rows)
    index = load_benchmarks(
        [(spec_of(fields={"question": "question"}), [file])], DecontaminateSpec()
    )
    assert find_hits([f"{PROSE} {PROSE}"], index) == [[]]
    assert [hit.item for hit in find_hits([told], index)[0]] == ["quiz.jsonl#0"]


def test_a_short_question_that_longer_ones_end_with_needs_its_answer(tmp_path: Path) -> None:
    stems = [f"Stone {i} lies on a scale beside {i} feathers." for i in range(8)]
    short = "Which statement is an inference?"
    rows = [{"question": f"{stem} {short}", "answer": "none"} for stem in stems]
    rows.append({"question": short, "answer": "the scale is broken"})
    fields = {"question": "question", "answer": "answer"}
    file = write(tmp_path / "quiz.jsonl", rows)
    index = load_benchmarks([(spec_of(fields=fields), [file])], DecontaminateSpec())
    assert find_hits([f"{PROSE}\n{short}\n{PROSE}"], index) == [[]]
    assert only(f"{PROSE}\n{short} The scale is broken.", index).item == "quiz.jsonl#8"


def test_questions_of_two_words_need_their_answer_or_are_all_there_is(
    index: BenchmarkIndex,
) -> None:
    assert only("Name it", index).tier == "question"
    hit = only(f"{PROSE} Name it: {PROSE}", index)
    assert (hit.item, hit.tier) == ("quiz.jsonl#5", "question_answer")


@pytest.mark.parametrize(
    ("language", "question"),
    [
        ("zh", "黑豹队的防守在超级碗比赛中一共丢了多少分而且排名第几"),
        ("ar", "كم عدد النقاط التي خسرها دفاع فريق الفهود في المباراة النهائية من الموسم الماضي"),
        ("th", "ทีมแพนเทอร์เสียแต้มให้แก่ทีมคู่แข่งไปทั้งหมดกี่แต้มในฤดูกาลนั้น"),
    ],
)
def test_other_languages_are_found(language: str, question: str, tmp_path: Path) -> None:
    rows = [{"question": question, "answer": "308"}]
    file = write(tmp_path / f"{language}.jsonl", rows)
    fields = {"question": "question", "answer": "answer"}
    index = load_benchmarks([(spec_of(fields=fields), [file])], DecontaminateSpec())
    for text in (question, f"{PROSE} {question}? 308", f"{question[:-4]}"):
        assert only(text, index).coverage >= 0.5


@pytest.mark.parametrize("word", ["tulips", "a", "花"])
def test_a_text_of_one_word_and_one_of_many_are_read(word: str, index: BenchmarkIndex) -> None:
    many = " ".join(f"w{number}" for number in range(200_000))
    assert find_hits([(word + " ") * 300_000, many, ""], index) == [[], [], []]
    found = find_hits([f"{many}\n{LONG}\n{(word + ' ') * 100_000}"], index)[0]
    assert [hit.tier for hit in found] == ["question"]


def test_coverage_decides_and_is_that_of_the_question(index: BenchmarkIndex) -> None:
    words = LONG.split()
    for kept in range(13, len(words) + 1):
        (hits,) = find_hits([" ".join(words[:kept])], index)
        grams, share = (kept - 12) / (len(words) - 12), kept / len(words)
        expected = [grams] if grams >= 0.5 else [share] if share >= 0.6 else []
        assert [hit.coverage for hit in hits] == expected


@pytest.mark.parametrize(
    ("text", "item", "tier"),
    [
        ("Which gas do plants take in?", 1, "question"),
        ("WHICH GAS\ndo plants take in? (a) neon (b) carbon dioxide", 1, "question"),
        (f"{PROSE} Which gas do plants take in? Carbon dioxide. {PROSE}", 1, "question_answer"),
        ("The sun is responsible for plants sprouting and wilting", 2, "question_answer"),
        ("Q: The sun is responsible for\nA) puppies\nB) plants", 2, "question"),
        ("Which statement is true? The moon orbits the earth.", 4, "question_answer"),
        ("Which statement is true?\nA: lead sinks\nB: iron floats on mercury", 3, "question"),
        (
            "Which statement is true?\nA: lead floats on water\nB: iron floats on mercury",
            3,
            "options",
        ),
    ],
)
def test_short_questions_are_found_whole(
    text: str, item: int, tier: str, index: BenchmarkIndex
) -> None:
    hit = only(text, index)
    assert (hit.item, hit.tier, hit.coverage) == (f"quiz.jsonl#{item}", tier, 1.0)
    question = word_form(ITEMS[item]["question"])
    assert word_form(text[hit.start : hit.end]) == question


@pytest.mark.parametrize(
    "text",
    [
        "",
        PROSE,
        *(choice for row in ITEMS for choice in row["choices"]),
        " ".join(choice for row in ITEMS for choice in row["choices"]),
        "The sun is responsible for most of the energy that reaches us.",
        "I asked which gas do plants take in the evening",
        "Which statement is true? None of these, said the judge.",
        "Name it! Then sit down.",
        " ".join(LONG.split()[:12]),
        " ".join(reversed(LONG.split())),
    ],
)
def test_answers_and_chance_phrases_do_not_match(text: str, index: BenchmarkIndex) -> None:
    assert find_hits([text, text], index) == [[], []]


@pytest.mark.parametrize("decoys", [10, 300, 3000])
def test_a_question_behind_many_that_begin_like_it_is_found(
    decoys: int, index: BenchmarkIndex
) -> None:
    beginning = " ".join(LONG.split()[:9])
    text = f"{beginning} something else happened then. " * decoys + f"And then: {LONG} The end."
    (hit,) = find_hits([text], index)[0]
    assert hit.coverage == 1
    assert text[hit.start : hit.end] == LONG.rstrip("?")


def test_nothing_is_found_across_two_texts(index: BenchmarkIndex) -> None:
    words = LONG.split()
    assert find_hits([" ".join(words[:15]), " ".join(words[15:])], index) == [[], []]
    assert find_hits([], index) == []


def test_a_template_shared_by_many_items_does_not_count(tmp_path: Path) -> None:
    stem = "In the following scene judge whether the one who speaks does anything wrong at all: "
    scenes = [" ".join(f"scene{i}word{j}" for j in range(20)) for i in range(40)]
    rows = [
        {"question": stem + scene, "choices": ["a", "b"], "answer_index": 0} for scene in scenes
    ]
    file = write(tmp_path / "quiz.jsonl", rows)
    index = load_benchmarks([(spec_of(), [file])], DecontaminateSpec(min_coverage=0.1))
    assert find_hits([f"{stem} and nothing else happens in it"], index) == [[]]
    assert only(f"{stem} {scenes[7]}", index).item == "quiz.jsonl#7"


def test_short_items_can_be_ignored(tmp_path: Path) -> None:
    file = write(tmp_path / "quiz.jsonl", ITEMS)
    spec = spec_of(short_items="ignore")
    index = load_benchmarks([(spec, [file])], DecontaminateSpec())
    assert find_hits(["Which gas do plants take in?"], index) == [[]]
    assert only(LONG, index).tier == "question"


def test_options_in_columns_letters_and_parquet(tmp_path: Path) -> None:
    rows = [
        {"q": row["question"], "a": row["choices"][0], "b": row["choices"][1], "key": "B"}
        for row in ITEMS[1:3]
    ]
    fields = {"question": "q", "choices": ["a", "b"], "answer": "key"}
    file = write(tmp_path / "quiz.parquet", rows)
    index = load_benchmarks([(spec_of(fields=fields), [file])], DecontaminateSpec())
    assert only("Which gas do plants take in: carbon dioxide", index).tier == "question_answer"


def test_bad_benchmarks_say_where(tmp_path: Path) -> None:
    file = write(tmp_path / "quiz.jsonl", [{**ITEMS[0], "answer_index": 9}])
    with pytest.raises(DataError, match=r"quiz\.jsonl#0.*none of 4 choices"):
        load_benchmarks([(spec_of(), [file])], DecontaminateSpec())
    fields = {"question": "prompt"}
    with pytest.raises(DataError, match="prompt"):
        load_benchmarks([(spec_of(fields=fields), [file])], DecontaminateSpec())


def test_result_does_not_depend_on_batches(index: BenchmarkIndex) -> None:
    rng = random.Random(2)
    plants = [LONG, "Which gas do plants take in?", PROSE, ""]
    texts = ["\n".join(rng.choices(plants, k=3)) for _ in range(50)]
    together = find_hits(texts, index)
    assert together == [find_hits([text], index)[0] for text in texts]
    assert any(len(hits) == 2 for hits in together)


def test_the_bundled_sample_leak_is_found() -> None:
    path = ROOT / "manifests" / "samples" / "benchmark_sample.jsonl"
    file = SourceFile("benchmark_sample.jsonl", path)
    index = load_benchmarks([(spec_of("sample"), [file])], DecontaminateSpec())
    hits = find_hits([row["text"] for row in sample_rows("syn_crawl_high")], index)
    assert [hit.item for hit in hits[0]] == ["benchmark_sample.jsonl#0"]
    assert not any(hits[1:])


def test_known_overlaps_of_real_benchmarks_are_found(tmp_path: Path) -> None:
    for name, train, test, known in (
        ("openbookqa", "openbookqa_train", "openbookqa_test", 23),
        ("mmlu", "mmlu_dev_validation", "mmlu_test", 45),
    ):
        held = data_rows(f"bench/{test}.jsonl.gz")
        file = write(tmp_path / f"{test}.jsonl", held)
        index = load_benchmarks([(spec_of(name), [file])], DecontaminateSpec())
        forms = {word_form(row["question"]) for row in held}
        texts = [row["question"] for row in data_rows(f"bench/{train}.jsonl.gz")]
        leaked = [word_form(text) in forms for text in texts]
        assert sum(leaked) == known
        found = [bool(hits) for hits in find_hits(texts, index)]
        assert all(f for f, known_leak in zip(found, leaked, strict=True) if known_leak)


def test_encyclopedia_pages_are_clean(tmp_path: Path) -> None:
    pages = [row["text"] for row in data_rows("wiki/wikipedia_en_articles.jsonl.gz", 400)]
    file = write(tmp_path / "mmlu.jsonl", data_rows("bench/mmlu_test.jsonl.gz"))
    index = load_benchmarks([(spec_of("mmlu"), [file])], DecontaminateSpec())
    assert not any(find_hits(pages, index))


def test_every_benchmark_manifest_loads_and_is_named_as_filed() -> None:
    for path in sorted((ROOT / "manifests" / "benchmarks").glob("*.yaml")):
        spec = BenchmarkSpec.model_validate(yaml.safe_load(path.read_text()))
        assert spec.name == path.stem


def test_real_benchmarks_have_the_fields_of_their_manifests() -> None:
    files = {
        "gsm8k": "gsm8k_test",
        "arc_challenge": "arc_challenge_test",
        "openbookqa": "openbookqa_test",
        "hellaswag": "hellaswag_validation",
        "humaneval": "humaneval_test",
        "mbpp": "mbpp_all",
    }
    rows = {name: data_rows(f"bench/{file}.jsonl.gz", 1)[0] for name, file in files.items()}
    data = Path(os.environ["DATAGEN_DATA"]) / "bench"
    pairs = []
    for name, file in files.items():
        manifest = (ROOT / "manifests" / "benchmarks" / f"{name}.yaml").read_text()
        spec = BenchmarkSpec.model_validate(yaml.safe_load(manifest))
        pairs.append((spec, [SourceFile(file, data / f"{file}.jsonl.gz")]))
    index = load_benchmarks(pairs, DecontaminateSpec())
    for spec, _ in pairs:
        (hits,) = find_hits([rows[spec.name][spec.fields.question]], index)
        assert (spec.name, f"{files[spec.name]}#0") in {(hit.benchmark, hit.item) for hit in hits}
