"""`datagen check` says everything that is wrong in one go, each with its place."""

from __future__ import annotations

from tests.conftest import Tiny

SECOND = {
    "name": "second",
    "title": "Another",
    "method": "documnt",
    "sources": ["pages", "nowhere"],
    "model": "judge",
    "sampling": {"ask": {"n": 1}},
    "filters": "plan",
}


def test_a_sound_workspace(unchanging: Tiny) -> None:
    """Nothing to say, exit code 0."""
    ran = unchanging.run("check", "--json")
    assert ran.code == 0
    assert ran.json == {"ok": True, "findings": []}


def test_every_mistake_at_once(tiny: Tiny) -> None:
    """One of each class in one workspace: all found, none twice, errors first."""
    tiny.write("generators/second/recipe.yaml", SECOND)
    tiny.write("generators/second/say.jinja", "fine\n{% for %}\n")
    tiny.write("generators/broken/recipe.yaml", "name: [\n")
    tiny.edit("generators/note/recipe.yaml", "mark: '!'", "marc: '!'")
    links = [{"use": "text.too_shrt"}, {"use": "text.too_short", "arguments": {"min": 1}}]
    tiny.change("filters/plain.yaml", filters=links)
    tiny.change("mixtures/small.yaml", corpus="corps", categories__pages__draw={"pag@pages": 1})
    tiny.change("mixtures/small.yaml", categories__chats__draw={})
    tiny.change("mixtures/other.yaml", categories__notes__share=11)
    tiny.change("manifests/sources/pages.yaml", sample__files=["../x.jsonl"])
    sha256 = {"manifests/samples/notes.jsonl": "f" * 64}
    tiny.change("manifests/sources/notes.yaml", sample__sha256=sha256)
    tiny.change("manifests/sources/chats.yaml", sample_licence="whatever", hub={"id": "a/b"})
    tiny.change("datagen.yaml", profiles__here__models={"teacher": {"model": "nobody"}})
    tiny.change("manifests/tokenizers/datagen-32k.yaml", end_of_text="<|nothing|>")
    ran = tiny.run("check", "--json")
    assert ran.code == 2
    findings = [f for f in ran.json["findings"] if f["level"] == "error"]
    assert all(f["where"] and f["fix"] for f in findings)
    assert len({(f["where"], f["message"]) for f in findings}) == len(findings)
    said = {(f["where"].rsplit(":", 1)[0], f["message"].split("\n")[0]) for f in findings}
    expected = [
        ("generators/second/recipe.yaml", "no method 'documnt'"),
        ("generators/second/recipe.yaml", "no source 'nowhere'"),
        ("generators/second/recipe.yaml", "serves no model as 'judge'"),
        ("generators/second/recipe.yaml", "no chain 'plan'"),
        ("generators/second/say.jinja", "template syntax"),
        ("generators/broken/recipe.yaml", "not valid YAML"),
        ("generators/note/recipe.yaml", "takes no argument 'marc'"),
        ("filters/plain.yaml", "text.too_shrt"),
        ("filters/plain.yaml", "bad arguments of 'text.too_short'"),
        ("mixtures/small.yaml", "no corpus 'corps'"),
        ("mixtures/small.yaml", "no recipe 'pag'"),
        ("mixtures/small.yaml", "category 'chats' has no source"),
        ("mixtures/other.yaml", "sum to 101"),
        ("manifests/sources/pages.yaml", "not a path inside"),
        ("manifests/sources/notes.yaml", "pins ffffffffffff"),
        ("manifests/sources/chats.yaml", "licence 'whatever' is not known"),
        ("datagen.yaml", "no model 'nobody'"),
        ("manifests/tokenizers/datagen-32k.yaml", "is no special token"),
    ]
    for place, words in expected:
        assert any(place == where and words in message for where, message in said), (place, words)
    assert len(findings) == len(expected), "and each once, though `switch` meets one of them too"
    notes = [f for f in ran.json["findings"] if f["level"] == "note"]
    assert ["hub revision is unknown" in note["message"] for note in notes] == [True]
    lines = tiny.run("check").out.splitlines()
    assert lines[-1] == f"{len(findings)} errors, 1 notes"
