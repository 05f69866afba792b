"""Our dedup without starting up and without writing kept rows, run by `dedup.py`.

python dedup_warm.py CORPUS.parquet OUT.json

Reads, sketches to disk, finds pairs and clusters, once on a small batch and once on all of it, in
one thread. OUT.json has the CPU seconds of the second.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from datagen.curate.minhash import candidate_pairs, clusters, sketch
from datagen.curate.sketches import SketchFiles, write_sketches
from datagen.shards.tables import TextTable, read_table
from datagen.workspace.specs import MinhashSpec


def dropped(corpus: Path, batches: int | None) -> int:
    """How many of the first batches' rows (or of all rows) are near duplicates."""
    spec = MinhashSpec()
    table = TextTable(name=corpus.name, path=corpus, id_field="id", text_field="text")
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for batch in read_table(table, whole=False):
            paths.append(Path(folder, f"{batch.first}.arrow"))
            write_sketches(paths[-1], batch.ids, sketch(batch.texts, spec))
            if len(paths) == batches:
                break
        files = SketchFiles.open(paths)
        ranks = np.arange(len(files))
        pairs = (candidate_pairs(files.band(band), ranks) for band in range(spec.banding[0]))
        return int((~clusters(pairs, files.parts(), spec, ranks).kept).sum())


if __name__ == "__main__":
    path = Path(sys.argv[1])
    dropped(path, 2)
    begin = time.process_time()
    rows = dropped(path, None)
    answer = {"cpu_s": time.process_time() - begin, "dropped": rows}
    Path(sys.argv[2]).write_text(json.dumps(answer))
