"""Kill `datagen dedup` and `datagen decontaminate` with -9 and start them again: equal bytes?

    python scripts/bench/table_kills.py [--kills 20] [--rows 3000] [--seed 1] [--only dedup]

Tables of texts with planted copies and benchmark questions. Each command runs once undisturbed;
then, in a fresh folder, it is killed at a random moment of its time and started again until it
ends, with another number of workers. Whatever it writes has to be equal byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

MAIN = [sys.executable, "-m", "datagen"]


def tables(folder: Path, rows: int, rng: random.Random) -> None:
    """Two tables, in which every third text is a copy with a few other words."""
    words = [f"w{n}" for n in range(5000)]
    folder.mkdir()
    texts: list[list[str]] = []
    for number in range(rows):
        text = rng.choices(words, k=300)
        if number % 3 == 2:
            text = texts[-1][:290] + rng.choices(words, k=10)
        texts.append(text)
    for part in range(2):
        lines = (
            json.dumps({"id": f"{part}-{n}", "text": " ".join(text)})
            for n, text in enumerate(texts[part::2])
        )
        (folder / f"part{part}.jsonl").write_text("\n".join(lines) + "\n")
    quiz = folder.with_name("benchmarks")
    quiz.mkdir()
    (quiz / "quiz.yaml").write_text(
        "name: quiz\nlicence: CC0-1.0\nfiles: [quiz.jsonl]\nfields: {question: question}\n"
    )
    items = (json.dumps({"question": " ".join(text[50:80])}) for text in texts[:: rows // 50 or 1])
    (quiz / "quiz.jsonl").write_text("\n".join(items) + "\n")


def outputs(folder: Path) -> dict[str, str]:
    """The hash of every file that a command left; what is hidden is scratch."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    }


def prove(command: Sequence[str], folder: Path, kills: int, rng: random.Random) -> int:
    """Run, kill and compare; returns how many results differed."""
    started = time.monotonic()
    subprocess.run([*MAIN, *command, "-o", str(folder / "whole")], check=True, capture_output=True)
    seconds = time.monotonic() - started
    expected = outputs(folder / "whole")
    assert expected
    hit = differing = 0
    for number in range(kills):
        out = folder / f"killed{number}"
        arguments = [*MAIN, *command, "-o", str(out), "--workers", str(1 + number % 3)]
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.2, seconds))
        if process.poll() is None:
            process.kill()
            hit += 1
        process.wait()
        done = subprocess.run(arguments, check=False, capture_output=True, text=True)
        found = outputs(out)
        if done.returncode or found != expected:
            differing += 1
            names = sorted({name for name, _ in found.items() ^ expected.items()})
            print(f"kill {number}: exit {done.returncode} {done.stderr[-300:]} {names}")
    print(f"{command[0]}: {seconds:.1f} s undisturbed, {hit} of {kills} killed, {differing} differ")
    return differing


def main() -> None:
    """Prove each command in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=["dedup", "decontaminate"], default=None)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    differing = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables(folder / "tables", options.rows, rng)
        commands = {
            "dedup": [],
            "decontaminate": ["--benchmarks", str(folder / "benchmarks")],
        }
        for command, extra in commands.items():
            if options.only in (None, command):
                (folder / command).mkdir()
                whole = [command, str(folder / "tables"), *extra]
                differing += prove(whole, folder / command, options.kills, rng)
    raise SystemExit(differing > 0)


if __name__ == "__main__":
    main()
