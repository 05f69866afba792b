"""Train the bundled tokenizer: a byte-level BPE of 32,768 tokens with a chat template.

    python scripts/train_tokenizer.py [FILE ...] [--name datagen-32k]

Without files: the bundled samples, and the public data sets under DATAGEN_DATA where it is set.
Equal input gives equal bytes. Writes manifests/tokenizers/NAME/ and manifests/tokenizers/NAME.yaml.
"""

from __future__ import annotations

import argparse
import gzip
import html
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from datagen.shards.parquet import file_sha256

ROOT = Path(__file__).resolve().parent.parent
VOCABULARY = 32_768
END_OF_TEXT = "<|endoftext|>"
NAMED = [
    END_OF_TEXT,
    *("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"),
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<|pad|>"),
]
CONTROL = NAMED + [f"<|reserved_{n}|>" for n in range(32 - len(NAMED))]
# one letter run with its marks (so that Devanagari or Thai words stay whole), single digits,
# one run of other signs, line ends, blanks; a word or sign takes one blank before it
PATTERN = r" ?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+"

PUBLIC = {
    "wiki/wikipedia_en_articles": "English Wikipedia, CC-BY-SA-3.0",
    "wiki/wikipedia_en_wikitext": "English Wikipedia, CC-BY-SA-3.0",
    "wiki/xquad_paragraphs": "XQuAD, CC-BY-SA-4.0",
    "code/code_files": "open-source packages, MIT / BSD / ISC / Apache-2.0 / BSL-1.0",
    "legal/legal_html": "EU and Swedish acts, US statutes, court pages: public domain, EU reuse",
    "dedup/eu_law_versions_docs": "EU acts, Decision 2011/833/EU",
    "bench/arc_challenge_train": "ARC train, CC-BY-SA-4.0",
    "bench/arc_easy_train": "ARC train, CC-BY-SA-4.0",
    "bench/boolq_train_6k": "BoolQ train, CC-BY-SA-3.0",
    "bench/commonsense_qa_train": "CommonsenseQA train, MIT",
    "bench/gsm8k_train": "GSM8K train, MIT",
    "bench/hellaswag_train_8k": "HellaSwag train, MIT",
    "bench/openbookqa_train": "OpenBookQA train, Apache-2.0",
    "bench/piqa_train_8k": "PIQA train, AFL-3.0",
    "bench/winogrande_train_10k": "WinoGrande train, CC-BY-4.0",
}
REPEATED = {"wiki/xquad_paragraphs": 4}
"""The one source of other scripts than Latin is small: count it more than once."""

TEMPLATE = """\
{%- for message in messages %}
{%- if message.role == "assistant" %}
{{- "<|assistant|>" }}
{%- generation %}
{%- if message.reasoning_content %}
{{- "<think>" + message.reasoning_content + "</think>" }}
{%- endif %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}
{{- "<tool_call>" }}
{{- {"name": call.function.name, "arguments": call.function.arguments} | tojson }}
{{- "</tool_call>" }}
{%- endfor %}
{{- "<|end|>" }}
{%- endgeneration %}
{%- else %}
{{- "<|" + message.role + "|>" + message.content + "<|end|>" }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- "<|assistant|>" }}
{%- endif %}
"""
SKIPPED_KEYS = {
    "id",
    "url",
    "split",
    "label",
    "sha256",
    "source_path",
    "licence",
    "package",
    "path",
}


def strings(value: Any) -> Iterator[str]:
    """All texts inside a JSON value, ids and the like left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in SKIPPED_KEYS:
                yield from strings(inner)


def texts(path: Path) -> Iterator[str]:
    """The texts of a .jsonl, .jsonl.gz or plain text file; markup of HTML columns taken off."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    if ".jsonl" not in path.name:
        yield text
        return
    for line in filter(None, text.split("\n")):
        row = json.loads(line)
        page = row.pop("html", None) if isinstance(row, dict) else None
        if page is not None:
            yield html.unescape(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page, flags=re.S))
        yield from strings(row)


def inputs(named: list[Path]) -> tuple[list[Path], str]:
    """The files to train on, repeats included, and where they come from in words."""
    if named:
        return named, "files named on the command line"
    files = sorted((ROOT / "manifests" / "samples").glob("*.jsonl"))
    said = ["the bundled samples (CC0-1.0)"]
    data = os.environ.get("DATAGEN_DATA")
    if data is None:
        print("DATAGEN_DATA is not set: training on the bundled samples alone", file=sys.stderr)
        return files, said[0]
    for name, licence in PUBLIC.items():
        files += [Path(data) / f"{name}.jsonl.gz"] * REPEATED.get(name, 1)
        said += [licence] if licence not in said else []
    return files, "; ".join(said)


def train(files: list[Path]) -> Any:
    """Train a byte-level BPE on the texts of files."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=CONTROL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for file in files for text in texts(file)), trainer)
    return tokenizer


def main() -> None:
    """Parse the command line, train, write the files and the manifest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--name", default="datagen-32k")
    parser.add_argument("--out", type=Path, default=ROOT / "manifests" / "tokenizers")
    arguments = parser.parse_args()
    files, said = inputs(arguments.files)
    directory = arguments.out / arguments.name
    directory.mkdir(parents=True, exist_ok=True)
    train(files).save(str(directory / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "pad_token": "<|pad|>",
        "clean_up_tokenization_spaces": False,
        "additional_special_tokens": NAMED[1:-1],
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    names = ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]
    manifest = {
        "name": arguments.name,
        "licence": "Apache-2.0",
        "path": f"manifests/tokenizers/{arguments.name}",
        "sha256": {name: file_sha256(directory / name) for name in names},
        "end_of_text": END_OF_TEXT,
        "trained_on": said,
    }
    (arguments.out / f"{arguments.name}.yaml").write_text(
        yaml.safe_dump(manifest, sort_keys=False, width=96, allow_unicode=True)
    )


if __name__ == "__main__":
    main()
