"""Does fact-seeking data in the last part of training teach the facts? With and without, by seed.

    DATAGEN_DATA=/path/to/data python scripts/bench/fact_injection.py make FOLDER
    python scripts/bench/fact_injection.py run FOLDER [--seeds 8] [--jobs 4] [--device cuda]

`make` reads real passages about films and people, takes facts out of them by rule (who directed a
film, its year, a person's year of birth), splits the facts at random into halves A and B, and packs
three builds of the same size: all begin with the passages; the last part is half questions about A,
half passages (`with_a`), the same for B (`with_b`), or passages alone (`without`).

`run` trains a small model on `with_*` and on `without` from each seed, the half taking turns, and
lets each choose among four answers by likelihood, to questions in words that no build holds. Half
the facts were asked about in training (treated), half were not (control). Differences are paired
by seed; intervals are 95 % by Student's t over seeds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import multiprocessing
import os
import re
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROW_TOKENS = 512
LAST_PART = 0.25
OPTIONS = 4
TRAINED_WORDS = {
    "director": (
        "Who directed {title}?",
        "Which director made the film {title}?",
        "{title} was directed by whom?",
    ),
    "year": (
        "In which year did {title} come out?",
        "What year is the film {title} from?",
        "{title} is a film of which year?",
    ),
    "born": (
        "In which year was {title} born?",
        "What is the year of birth of {title}?",
        "{title} was born in which year?",
    ),
}
HELD_OUT_WORDS = {
    "director": ("Name the director of the film {title}.", "Who was the director of {title}?"),
    "year": ("When was the film {title} released?", "Name the year in which {title} appeared."),
    "born": ("When was {title} born?", "Name the year of {title}'s birth."),
}
RULES = {
    "director": re.compile(r"directed by ((?:[A-Z][\w'\-]+ ){1,2}[A-Z][\w'\-]+)\b"),
    "year": re.compile(r" is an? (\d{4}) [^.]*film"),
    "born": re.compile(r"^[^(]{3,60}\([^)]*?\b(?:[A-Z][a-z]+|\d{1,2},) (\d{4})(?= ?[–)])"),
}
T_975 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179)
"""Student's t at 97.5 % for 1 to 12 degrees of freedom."""


# --- what is trained and asked -------------------------------------------------------------------


def passages(limit: int | None) -> list[tuple[str, str]]:
    """Read (title, text) of real passages, the first of each title."""
    path = Path(os.environ["DATAGEN_DATA"]) / "search/passage_corpus_2wiki.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return list({row["title"]: (row["title"], row["text"]) for row in reversed(rows)}.values())[
        :limit
    ]


def facts_of(texts: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Take facts out of passages by rule: kind, title, answer."""
    return [
        {"kind": kind, "title": re.sub(r" \(.*\)$", "", title), "answer": found[1]}
        for title, text in texts
        for kind, rule in RULES.items()
        if (found := rule.search(text))
    ]


def asked(question: str, answer: str) -> str:
    """Write a question with its answer as the builds hold it."""
    return f"Question: {question}\nAnswer: {answer}"


def make(folder: Path, *, limit: int | None, tokens: int) -> None:
    """Pack the three builds and write the questions, as token ids, into `folder`."""
    from tokenizers import Tokenizer

    from datagen.pack.render import Renderer
    from datagen.workspace.load import Workspace

    root = Path(__file__).resolve().parents[2]
    renderer = Renderer(Workspace(root).tokenizer("datagen-32k").spec, root)
    texts = passages(limit)
    facts = facts_of(texts)
    rng = np.random.default_rng(0)
    in_a = np.zeros(len(facts), dtype=bool)
    in_a[rng.permutation(len(facts))[: len(facts) // 2]] = True
    pages = [f"{title}\n\n{text}" for title, text in texts]
    builds = {"without": []}
    for half, chosen in (("with_a", in_a), ("with_b", ~in_a)):
        builds[half] = [
            asked(words.format(title=fact["title"]), fact["answer"])
            for fact, taken in zip(facts, chosen, strict=True)
            if taken
            for words in TRAINED_WORDS[fact["kind"]]
        ]
    for name, questions in builds.items():
        size = pack(folder / name, renderer, pages, questions, tokens)
        print(f"{name}: {len(pages)} passages, {len(questions)} questions; {size}")
    tokenizer = Tokenizer.from_file(str(root / "manifests/tokenizers/datagen-32k/tokenizer.json"))
    tests = questions_for(facts, in_a, tokenizer, rng)
    meta = {"vocabulary": renderer.vocabulary, "row_tokens": ROW_TOKENS, "tests": tests}
    (folder / "tests.json").write_text(json.dumps(meta))
    kinds = {kind: sum(fact["kind"] == kind for fact in facts) for kind in RULES}
    print(f"{len(facts)} facts {kinds}, {len(tests)} held-out questions of {OPTIONS} options")


def questions_for(
    facts: Sequence[dict[str, str]], in_a: np.ndarray, tokenizer: Any, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Word each fact's held-out questions, with wrong answers that are right for others."""
    # Wrong answers are right for facts of the same half, and as often as they are right there: an
    # answer that is rare, or that no question in training had, would be known for wrong by that.
    answers: dict[tuple[str, bool], list[str]] = {}
    for fact, half in zip(facts, in_a, strict=True):
        answers.setdefault((fact["kind"], bool(half)), []).append(fact["answer"])

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    made = []
    for fact, half in zip(facts, in_a, strict=True):
        wrong: list[str] = []
        while len(wrong) < OPTIONS - 1:
            other = str(rng.choice(answers[fact["kind"], bool(half)]))
            wrong += [other] if other not in (*wrong, fact["answer"]) else []
        for words in HELD_OUT_WORDS[fact["kind"]]:
            prompt = asked(words.format(title=fact["title"]), "").rstrip()
            made.append(
                {
                    "kind": fact["kind"],
                    "half": "a" if half else "b",
                    "prompt": ids(prompt),
                    "options": [ids(f" {answer}") for answer in (fact["answer"], *wrong)],
                }
            )
    return made


def pack(
    folder: Path, renderer: Any, pages: Sequence[str], questions: Sequence[str], tokens: int
) -> str:
    """Pack passages for the first part, passages and questions in halves for the last."""
    from datagen.mix.order import draw, interleave
    from datagen.pack.arrange import arrange
    from datagen.pack.rows import Documents, token_rows
    from datagen.record import Lineage, Record
    from datagen.shards.parquet import write_parquet
    from datagen.shards.schema import TOKEN_ROW_SCHEMA

    lineage = Lineage(
        generator="fact_injection",
        version="1",
        fingerprint="",
        source="passages",
        source_revision="",
        row_key="",
        licence="Apache-2.0",
    )
    records = [
        Record(id=f"{i}", text=text, messages=None, lineage=lineage, metadata={})
        for i, text in enumerate([*pages, *questions])
    ]
    documents = Documents([renderer.documents(records)])
    lengths, is_page = documents.n_tokens, np.arange(len(records)) < len(pages)
    last, count = round(LAST_PART * tokens), len(pages)
    first = draw(lengths[:count], tokens - last, seed=0)
    times = np.bincount(first, minlength=count)
    share = last // 2 if questions else last
    parts = [draw(lengths[:count], share, seed=1, drawn=times)]
    if questions:
        parts.append(count + draw(lengths[count:], last - share, seed=2))
    merged = interleave([lengths[part] for part in parts])
    second = np.array([parts[p][n] for p, n in zip(merged.part, merged.nth, strict=True)])
    drawn = np.concatenate([first, second])
    rows = arrange(
        lengths[drawn],
        splittable=documents.splittable[drawn],
        prompts=documents.prompts[drawn],
        phase=np.repeat([0, 1], [len(first), len(second)]),
        capacity=ROW_TOKENS,
        seed=0,
    )
    batches = token_rows(
        rows,
        documents,
        drawn=drawn,
        category=np.where(is_page[drawn], 0, 1),
        categories=["passage", "question"],
        phases=["first", "last"],
    )
    write_parquet(folder, "00000.parquet", batches, TOKEN_ROW_SCHEMA)
    return f"{rows.tokens:,} tokens in {len(rows)} rows"


# --- training and choosing -----------------------------------------------------------------------


def recipe(device: str) -> Any:
    """Take a small model and a recipe whose decay is the last part."""
    from datagen.train.config import PRESETS

    base = PRESETS["nano-like"]
    model = replace(
        base.model,
        pattern="MEM*EME",
        d_model=256,
        query_heads=4,
        mamba_heads=8,
        mamba_groups=4,
        experts=32,
        expert_width=128,
        shared_width=256,
        latent_width=128,
        mtp_heads=0,
        dtype="bfloat16" if device == "cuda" else "float32",
    )
    return replace(
        base,
        model=model,
        batch_rows=32,
        microbatch_rows=32,
        peak_lr=3e-3,
        min_lr=3e-5,
        decay_fraction=LAST_PART,
        checkpoint_every=1_000_000,
        held_out_every=0,
        validate_every=0,
        snapshot_every=0,
    )


def accuracy(model: Any, tests: Sequence[dict[str, Any]], device: str) -> list[bool]:
    """Choose for each question the option of the largest mean log-likelihood a token."""
    import torch

    from datagen.train.data import Window, collate

    windows, spans = [], []
    for test in tests:
        for option in test["options"]:
            ids = np.array([*test["prompt"], *option])
            mask = np.arange(len(ids)) >= len(test["prompt"])
            windows.append(Window(ids, mask.astype(np.int64), np.array([0]), ("test",)))
            spans.append(len(option))
    # Short texts end to end in long rows: documents never see each other.
    order = np.argsort([len(window.ids) for window in windows], kind="stable")
    means = np.zeros(len(windows))
    for begin in range(0, len(order), 512):
        chosen = order[begin : begin + 512]
        longest = max(len(windows[i].ids) for i in chosen)
        longest = -(-longest // 16) * 16
        batch = collate([windows[i] for i in chosen], longest).on(torch.device(device))
        sums = model.token_losses(batch, 8192).sum(1).cpu().numpy()
        means[chosen] = sums / np.array([spans[i] for i in chosen])
    by_test = means.reshape(len(tests), OPTIONS)
    return [bool(row[0] < row[1:].min()) for row in by_test]


def one_seed(task: tuple[Path, int, str]) -> dict[str, dict[str, float]]:
    """Train both arms from a seed; return accuracies by arm and group of questions."""
    import torch
    from safetensors.torch import load_file

    from datagen.train.door import train
    from datagen.train.model import HybridModel

    folder, seed, device = task
    meta = json.loads((folder / "tests.json").read_text())
    half = "ab"[seed % 2]
    found = {}
    for arm in (f"with_{half}", "without"):
        with tempfile.TemporaryDirectory() as run:
            report = train(
                [folder / arm / "00000.parquet"],
                config=recipe(device),
                vocabulary=meta["vocabulary"],
                row_tokens=meta["row_tokens"],
                steps=None,
                out=Path(run),
                seed=seed,
                device=device,
            )
            with torch.device(device):
                config = replace(recipe(device).model, vocabulary=meta["vocabulary"])
                model = HybridModel(config)
            model.load_state_dict(load_file(report.checkpoint / "model.safetensors"))
        right = accuracy(model, meta["tests"], device)
        groups: dict[str, list[bool]] = {}
        for test, is_right in zip(meta["tests"], right, strict=True):
            group = "treated" if test["half"] == half else "control"
            for name in (group, f"{group} {test['kind']}"):
                groups.setdefault(name, []).append(is_right)
        found[arm.split("_")[0]] = {n: statistics.mean(g) for n, g in sorted(groups.items())}
        print(
            f"seed {seed} {arm:8} {report.steps} steps, {report.tokens:,} tokens, "
            f"loss {report.last_loss:.3f}: "
            + ", ".join(f"{n} {a:.1%}" for n, a in found[arm.split("_")[0]].items()),
            flush=True,
        )
    return found


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval."""
    if len(values) < 2:
        return values[0], math.inf
    width = T_975[min(len(values) - 2, len(T_975) - 1)]
    return statistics.mean(values), width * statistics.stdev(values) / len(values) ** 0.5


def run(folder: Path, *, seeds: int, jobs: int, device: str) -> None:
    """Train every seed's two arms and print effects with their intervals."""
    tasks = [(folder, seed, device) for seed in range(seeds)]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        results = pool.map(one_seed, tasks, chunksize=1)
    print(f"\n{'questions about':20} {'without':>8} {'with':>8}   difference, 95 % interval")
    for group in results[0]["with"]:
        before = statistics.mean(r["without"][group] for r in results)
        after = statistics.mean(r["with"][group] for r in results)
        mean, half = interval([r["with"][group] - r["without"][group] for r in results])
        print(f"{group:20} {before:8.2%} {after:8.2%}   {mean:+.2%} ± {half:.2%}")
    beyond = [
        (r["with"]["treated"] - r["without"]["treated"])
        - (r["with"]["control"] - r["without"]["control"])
        for r in results
    ]
    mean, half = interval(beyond)
    print(f"treated beyond control, {len(results)} seeds: {mean:+.2%} ± {half:.2%}")


def main() -> None:
    """Make the builds, or train on them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["make", "run"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--passages", type=int, default=None, help="take only the first so many")
    parser.add_argument("--tokens", type=int, default=8_000_000, help="of each build")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    if options.what == "make":
        make(options.folder, limit=options.passages, tokens=options.tokens)
    else:
        run(options.folder, seeds=options.seeds, jobs=options.jobs, device=options.device)


if __name__ == "__main__":
    main()
