"""Decontamination of tables: what is kept, what is listed, and that nothing else decides it."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datagen.curate.benchmarks import find_benchmarks
from datagen.curate.decontaminate_tables import DecontaminateReport, decontaminate_tables
from datagen.errors import DataError, WorkspaceError
from datagen.shards.tables import find_tables
from datagen.workspace.specs import DecontaminateSpec
from tests.curate.support import PROSE

LONG = (
    "A gardener plants forty tulips in five equal rows and then adds one more row of the same "
    "length; how many tulips stand in the bed at the end of the day?"
)
SHORT = "Which gas do plants take in?"
CLAUSE = (
    "Be it enacted by the Assembly of the Republic and by the authority of the same, in this "
    "present session gathered, that the law shall read as follows from this day on"
)
ROWS: list[dict[str, Any]] = [
    {"id": 1, "body": f"{PROSE}\n{LONG}\n{PROSE}", "more": [1, {"a": None}]},
    {"id": "two", "body": PROSE},
    {"id": 3, "body": f"{SHORT} Carbon dioxide."},
    {"id": 4, "body": None},
    {"id": 5, "body": "48 tulips, carbon dioxide"},
]


@pytest.fixture
def benchmarks(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmarks"
    (folder / "data").mkdir(parents=True)
    quiz = [
        {"q": LONG, "a": "48", "b": "45", "key": 0},
        {"q": SHORT, "a": "oxygen", "b": "carbon dioxide", "key": 1},
    ]
    (folder / "data" / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in quiz))
    (folder / "quiz.yaml").write_text(
        "name: quiz\nlicence: MIT\nfiles: [data/*.jsonl]\nsplit: test\n"
        "fields: {question: q, choices: [a, b], answer: key}\n"
    )
    pq.write_table(pa.table({"q": [f"{CLAUSE}."]}), folder / "acts.parquet")
    (folder / "acts.yaml").write_text(
        "name: acts\nlicence: MIT\nfiles: [acts.parquet]\nfields: {question: q}\n"
    )
    return folder


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def run(
    inputs: list[Path], benchmarks: Path, out: Path, workers: int = 1, **settings: Any
) -> DecontaminateReport:
    tables = find_tables(inputs, id_field="id", text_field="body")
    spec = DecontaminateSpec.model_validate(settings)
    return decontaminate_tables(tables, find_benchmarks(benchmarks), out, spec, workers=workers)


def content(out: Path) -> dict[str, bytes]:
    files = [path for path in out.rglob("*") if path.is_file() and ".found" not in path.parts]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(files)}


def test_rows_with_hits_are_dropped_and_listed_with_their_spans(
    tmp_path: Path, benchmarks: Path
) -> None:
    path = write(tmp_path / "in.jsonl.gz", ROWS)
    report = run([path], benchmarks, tmp_path / "out")
    assert (report.rows, report.kept, report.dropped, report.cut, report.hits) == (5, 3, 2, 0, 2)
    assert report.tiers == {"quiz": {"question": 1, "question_answer": 1}}
    lines = gzip.decompress(path.read_bytes()).splitlines()
    kept = gzip.decompress((tmp_path / "out" / "in.jsonl.gz").read_bytes()).splitlines()
    assert kept == [lines[i] for i in (1, 3, 4)]
    hits = pq.read_table(tmp_path / "out" / "hits.parquet").to_pylist()
    assert [(hit["id"], hit["item"]) for hit in hits] == [
        ("1", "data/quiz.jsonl#0"),
        ("3", "data/quiz.jsonl#1"),
    ]
    assert ROWS[0]["body"][hits[0]["start"] : hits[0]["end"]] == LONG.rstrip("?")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_spans_are_cut_where_that_is_the_policy(
    tmp_path: Path, benchmarks: Path, kind: str
) -> None:
    rows = [{"id": 1, "body": f"{PROSE}\n{LONG}\n{LONG.upper()} {PROSE}"}, {"id": 2, "body": LONG}]
    path = write(tmp_path / "in.jsonl", rows)
    if kind == "parquet":
        path = tmp_path / "in.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
    report = run([path], benchmarks, tmp_path / "out", on_hit="cut")
    assert (report.kept, report.dropped, report.cut) == (2, 0, 2)
    out = tmp_path / "out" / path.name
    kept = pq.read_table(out).to_pylist() if kind == "parquet" else read_lines(out)
    assert LONG[:-1].lower() not in kept[0]["body"].lower()
    assert kept[0]["body"].startswith(PROSE)
    assert kept[0]["body"].endswith(PROSE)
    assert kept[1]["body"] == "?"


def test_bytes_that_are_no_utf8_stay_where_nothing_is_found(
    tmp_path: Path, benchmarks: Path
) -> None:
    texts = [f"\xff {PROSE}".encode("latin-1"), b"\xff " + f"{LONG}\n{SHORT} {PROSE}".encode()]
    column = pa.array(texts, pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": [1, 2], "body": column}), tmp_path / "in.parquet")
    run([tmp_path / "in.parquet"], benchmarks, tmp_path / "out", on_hit="cut")
    kept = pq.read_table(tmp_path / "out" / "in.parquet").column("body").cast(pa.binary())
    assert kept[0].as_py() == texts[0]
    assert kept[1].as_py().decode() == f"\ufffd\n?\n? {PROSE}"


def test_what_stands_hundreds_of_times_is_cut_everywhere(tmp_path: Path, benchmarks: Path) -> None:
    path = write(
        tmp_path / "in.jsonl", [{"id": 1, "body": f"{PROSE} {(LONG + ' ') * 600} {PROSE}"}]
    )
    report = run([path], benchmarks, tmp_path / "out", on_hit="cut")
    assert (report.cut, report.hits) == (1, 1)
    (row,) = read_lines(tmp_path / "out" / "in.jsonl")
    assert set(row["body"].replace(PROSE, "").split()) == {"?"}


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_clause_of_many_texts_is_a_form_of_words(tmp_path: Path, benchmarks: Path) -> None:
    acts = [{"id": i, "body": f"{CLAUSE}: article {i}. {PROSE}"} for i in range(11)]
    few = run([write(tmp_path / "few.jsonl", acts[:10])], benchmarks, tmp_path / "few")
    many = run([write(tmp_path / "many.jsonl", acts)], benchmarks, tmp_path / "many")
    assert (few.dropped, few.formulas) == (10, 0)
    assert (many.dropped, many.formulas, many.hits) == (0, 1, 0)
    asked = [{"id": i, "body": f"{PROSE} {LONG}"} for i in range(40)]
    assert run([write(tmp_path / "x.jsonl", asked)], benchmarks, tmp_path / "x").dropped == 40


def test_order_and_workers_decide_nothing(tmp_path: Path, benchmarks: Path) -> None:
    rng = random.Random(3)
    paths = []
    for name in ("b/x.jsonl", "a/x.jsonl", "c.jsonl"):
        rows = [{**rng.choice(ROWS), "id": f"{name} {i}"} for i in range(300)]
        paths.append(write(tmp_path / name, rows))
    run(paths, benchmarks, tmp_path / "one")
    run(paths[::-1], benchmarks, tmp_path / "two", workers=3)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_later_run_reads_only_what_is_new(tmp_path: Path, benchmarks: Path) -> None:
    first = write(tmp_path / "a.jsonl", ROWS)
    second = write(tmp_path / "b.jsonl", [{**row, "id": f"b{row['id']}"} for row in ROWS])
    out = tmp_path / "out"
    assert run([first], benchmarks, out).read == 1
    assert run([first, second], benchmarks, out).read == 1
    before = content(out)
    (out / "a.jsonl").unlink()
    (out / "hits.parquet").unlink()
    assert run([first, second], benchmarks, out).read == 0
    again = content(out)
    assert before.keys() == again.keys()
    assert all(before[name] == again[name] for name in before if name != "decontaminate.json")
    write(first, ROWS[1:])
    assert run([first, second], benchmarks, out).read == 1


def test_a_killed_run_goes_on(tmp_path: Path, benchmarks: Path) -> None:
    rows = [{"id": i, "body": f"{PROSE} {i} " * 40} for i in range(3000)]
    paths = [
        write(tmp_path / f"{part}.jsonl", [{**row, "id": f"{part} {row['id']}"} for row in rows])
        for part in range(4)
    ]
    write(tmp_path / "4.jsonl", ROWS)
    command = [sys.executable, "-m", "datagen", "decontaminate", *map(str, paths)]
    command += [str(tmp_path / "4.jsonl"), "--benchmarks", str(benchmarks), "--text-field", "body"]
    killed = subprocess.Popen([*command, "-o", str(tmp_path / "out"), "--workers", "1"])
    deadline = time.monotonic() + 60
    while killed.poll() is None and time.monotonic() < deadline:
        if list((tmp_path / "out" / ".found").glob("[0-9a-f]*.json")):
            killed.kill()
        time.sleep(0.005)
    killed.wait()
    paths.append(tmp_path / "4.jsonl")
    report = run(paths, benchmarks, tmp_path / "out")
    assert report.read < len(paths)
    run(paths, benchmarks, tmp_path / "fresh")
    done, fresh = content(tmp_path / "out"), content(tmp_path / "fresh")
    assert {name for name in done if name not in (".lock", "decontaminate.json")} == {
        name for name in fresh if name != "decontaminate.json"
    }
    assert all(done[name] == fresh[name] for name in fresh if name != "decontaminate.json")


def test_wrong_inputs_are_named(tmp_path: Path, benchmarks: Path) -> None:
    path = write(tmp_path / "in.jsonl", [*ROWS, {"id": 1, "body": ""}])
    with pytest.raises(DataError, match=r"in.jsonl#5: the id '1' stands at .*in.jsonl#0 already"):
        run([path], benchmarks, tmp_path / "out")
    with pytest.raises(DataError, match="take the place of the input"):
        run([path], benchmarks, tmp_path)
    assert not list((tmp_path / "out").glob("*.parquet"))


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("name: x\nlicence: MIT\nfiles: [none.jsonl]\nfields: {question: q}\n", r"x.yaml:3.*none"),
        ("name: x\nlicence: MIT\nfiles: [/etc/x]\nfields: {question: q}\n", r"x.yaml:3"),
        ("name: x\nlicence: MIT\nfile: [a]\nfields: {question: q}\n", r"x.yaml:3"),
        ("name: quiz\nlicence: MIT\nfiles: [acts.parquet]\nfields: {question: q}\n", "two manif"),
        ("name: x\nlicence: MIT\nhub: a/b\nrevision: x\nfields: {question: q}\n", r"x.yaml"),
        ("name: [", r"x.yaml"),
    ],
)
def test_a_wrong_manifest_is_named(benchmarks: Path, manifest: str, said: str) -> None:
    (benchmarks / "x.yaml").write_text(manifest)
    with pytest.raises(WorkspaceError, match=said):
        find_benchmarks(benchmarks)


def test_a_benchmark_without_questions_is_refused(tmp_path: Path, benchmarks: Path) -> None:
    (benchmarks / "empty.jsonl").write_text('{"q": ""}\n')
    (benchmarks / "x.yaml").write_text(
        "name: x\nlicence: MIT\nfiles: [empty.jsonl]\nfields: {question: q}\n"
    )
    with pytest.raises(DataError, match=r"empty.jsonl: benchmark 'x' has no question"):
        run([write(tmp_path / "in.jsonl", ROWS)], benchmarks, tmp_path / "out")
    with pytest.raises(WorkspaceError, match="no benchmark manifest"):
        find_benchmarks(tmp_path)
    with pytest.raises(WorkspaceError, match=r"no benchmark 'y'; there are acts, quiz, x"):
        find_benchmarks(benchmarks, ["y"])


def test_a_hub_may_be_named_in_one_word() -> None:
    from datagen.workspace.specs import BenchmarkSpec

    spec = BenchmarkSpec.model_validate(
        {
            "name": "x",
            "licence": "MIT",
            "hub": "a/b",
            "revision": "0" * 40,
            "split": "validation",
            "fields": {"question": "q"},
        }
    )
    assert spec.hub is not None
    assert (spec.hub.id, spec.hub.revision, spec.hub.split) == ("a/b", "0" * 40, "validation")
