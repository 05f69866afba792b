from __future__ import annotations

import gzip
import json
import random
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datagen.curate.dedup import CLUSTERS, dedup_tables
from datagen.errors import DataError
from datagen.shards.tables import find_tables
from datagen.workspace.specs import MinhashSpec
from tests.curate.support import planted_pair, random_text

SPEC = MinhashSpec()
Row = dict[str, object]


def corpus(pairs: int = 40) -> list[Row]:
    """Pairs of near duplicates among single texts, some exact copies, some odd texts."""
    rng = random.Random(11)
    texts = [text for _ in range(pairs) for text in planted_pair(rng, 80, 0.9)]
    texts += [" ".join(random_text(rng, 60)) for _ in range(pairs)]
    texts += [texts[0]] * 3 + ["", "", "spam " * 3000, "spam " * 2999, "港は古い" * 30]
    order = list(range(len(texts)))
    rng.shuffle(order)
    return [{"id": f"d{n}", "text": texts[i], "extra": {"n": n}} for n, i in enumerate(order)]


def write_jsonl(path: Path, rows: list[Row]) -> Path:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


def write_parquet_rows(path: Path, rows: list[Row]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=50)
    return path


def run(inputs: list[Path], out: Path, workers: int = 1, index: Path | None = None) -> None:
    tables = find_tables(inputs, id_field="id", text_field="text")
    dedup_tables(tables, out, SPEC, workers=workers, index=index)


def outcome(out: Path) -> dict[str, Row]:
    rows = pq.read_table(out / CLUSTERS).to_pylist()
    return {row["id"]: {k: v for k, v in row.items() if k != "id"} for row in rows}


def test_the_result_hangs_on_the_rows_alone(tmp_path: Path) -> None:
    rows = corpus()
    run([write_jsonl(tmp_path / "all.jsonl", rows)], tmp_path / "one")
    expected = outcome(tmp_path / "one")
    assert list(expected) == [row["id"] for row in rows]
    shuffled = rows.copy()
    random.Random(2).shuffle(shuffled)
    parts = [
        write_parquet_rows(tmp_path / "z.parquet", shuffled[:70]),
        write_jsonl(tmp_path / "y.jsonl.gz", shuffled[70:90]),
        write_jsonl(tmp_path / "x.jsonl", shuffled[90:]),
    ]
    run(parts, tmp_path / "three", workers=3)
    assert outcome(tmp_path / "three") == expected


def test_one_row_of_a_cluster_is_kept_as_it_stood(tmp_path: Path) -> None:
    rows = corpus()
    run([write_jsonl(tmp_path / "in.jsonl", rows)], tmp_path / "out")
    found = outcome(tmp_path / "out")
    kept = [json.loads(line) for line in (tmp_path / "out" / "in.jsonl").read_text().splitlines()]
    assert kept == [row for row in rows if found[str(row["id"])]["kept"]]
    members: dict[object, list[str]] = {}
    for name, row in found.items():
        members.setdefault(row["cluster"], []).append(name)
    for cluster, names in members.items():
        assert [n for n in names if found[n]["kept"]] == [cluster]
        assert cluster == min(names, key=lambda name: int(re.sub(r"\D", "", name)))
        assert {found[n]["size"] for n in names} == {len(names)}
        assert all(found[n]["similarity"] >= SPEC.threshold for n in names)
    empty = [str(row["id"]) for row in rows if row["text"] == ""]
    assert all(found[name]["size"] == 1 for name in empty)


def test_parquet_keeps_its_columns_and_their_types(tmp_path: Path) -> None:
    rows = corpus()
    path = write_parquet_rows(tmp_path / "in.parquet", rows)
    run([path], tmp_path / "out")
    written = pq.read_table(tmp_path / "out" / "in.parquet")
    found = outcome(tmp_path / "out")
    assert written.schema == pq.read_schema(path)
    assert written.to_pylist() == [row for row in rows if found[str(row["id"])]["kept"]]


def test_new_rows_are_compared_with_an_index(tmp_path: Path) -> None:
    rows = corpus()
    first = write_jsonl(tmp_path / "first.jsonl", rows[:60])
    second = write_jsonl(tmp_path / "second.jsonl", rows[60:])
    index = tmp_path / "index"
    run([first], tmp_path / "a", index=index)
    run([second], tmp_path / "b", index=index)
    before = outcome(tmp_path / "a")
    first.unlink()
    run([second], tmp_path / "again", index=index)
    after = outcome(tmp_path / "b")
    assert outcome(tmp_path / "again") == after
    write_jsonl(tmp_path / "all.jsonl", rows)
    run([tmp_path / "all.jsonl"], tmp_path / "c")
    whole = outcome(tmp_path / "c")
    for name, row in after.items():
        # Whoever stands in a cluster with an older row gives way to it.
        together = [n for n in before if whole[n]["cluster"] == whole[name]["cluster"]]
        assert row["kept"] is (not together and whole[name]["kept"])
        if together:
            assert row["cluster"] in {before[n]["cluster"] for n in together}
    third = write_jsonl(tmp_path / "third.jsonl", [rows[3]])
    with pytest.raises(DataError, match="in the index already"):
        run([third], tmp_path / "d", index=index)
    tables = find_tables([third], id_field="id", text_field="text")
    with pytest.raises(DataError, match="other settings"):
        dedup_tables(tables, tmp_path / "e", MinhashSpec(threshold=0.8), index=index)


def test_a_finished_run_is_not_done_again_and_changed_inputs_are(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", corpus()[:50])
    tables = find_tables([path], id_field="id", text_field="text")
    assert not dedup_tables(tables, tmp_path / "out", SPEC).finished
    again = dedup_tables(tables, tmp_path / "out", SPEC)
    assert again.finished
    assert again.rows == 50
    write_jsonl(path, corpus()[:51])
    assert dedup_tables(tables, tmp_path / "out", SPEC).rows == 51


def test_text_that_is_no_utf8_is_read_all_the_same(tmp_path: Path) -> None:
    broken = pa.array([b"caf\xff " * 20, b"caf\xff " * 20, b"other \xe2\x82 text"], pa.binary())
    texts = pa.Array.from_buffers(pa.string(), 3, broken.buffers())
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": [1, 2, 3], "text": texts}), path)
    run([path], tmp_path / "out")
    assert [row["cluster"] for row in outcome(tmp_path / "out").values()] == ["1", "1", "3"]


def test_large_texts_in_any_script(tmp_path: Path) -> None:
    rng = random.Random(5)
    words = " ".join(random_text(rng, 1_000_000))
    unique = " ".join(map(str, range(1_000_000)))
    arabic = "هذا نص طويل عن مدينة قديمة على البحر " * 5000
    chinese = "".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(200_000))
    texts = [words, words[:-400], unique, unique + " 1", arabic, chinese, chinese[:-300] + "港"]
    rows: list[Row] = [{"id": str(i), "text": text} for i, text in enumerate(texts)]
    run([write_jsonl(tmp_path / "in.jsonl", rows)], tmp_path / "out", workers=2)
    assert [row["cluster"] for row in outcome(tmp_path / "out").values()] == list("0022455")


def test_errors_name_place_and_remedy(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}])
    with pytest.raises(DataError, match="the id 'a' stands at"):
        run([path], tmp_path / "out")
    assert not (tmp_path / "out" / CLUSTERS).exists()
    pq.write_table(pa.table({"id": ["a"], "text": ["b"]}), tmp_path / CLUSTERS)
    with pytest.raises(DataError, match="named like an output"):
        run([tmp_path / CLUSTERS], tmp_path / "out")
