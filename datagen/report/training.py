"""A training run as one offline page: its losses, its health, what it wrote."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import orjson

from datagen.errors import DataError
from datagen.report.plot import Line, Mark, chart

_SMOOTH_STEPS = 20
_MOST_LAYERS = 12
_PAGE_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 800px; margin: 2rem auto; padding: 0 1rem }
svg { width: 100%; height: auto; display: block; margin: 0 0 14px }
table { border-collapse: collapse } td, th { padding: 2px 14px 2px 0; text-align: left }
td.n { text-align: right; font-variant-numeric: tabular-nums }
blockquote { white-space: pre-wrap; border-left: 3px solid #8884; margin: 0; padding-left: 12px }
.alarm { color: #b3203a }
"""


def write_page(run: Path, *, sample: str | None = None) -> Path:
    """Write `report.html` into a run's folder from its telemetry; return its path."""
    steps, validation = _lines(run / "telemetry.jsonl"), _lines(run / "validation.jsonl")
    body = [
        f"<h1>{escape(run.name)}</h1>",
        _facts(run, steps),
        _alarms(steps),
        *pictures(run).values(),
        _categories(validation),
        f"<h2>It writes</h2><blockquote>{escape(sample)}</blockquote>" if sample else "",
    ]
    path = run / "report.html"
    path.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(run.name)}</title><style>{_PAGE_STYLE}</style>{''.join(body)}</html>\n",
        encoding="utf-8",
    )
    return path


def pictures(run: Path) -> dict[str, str]:
    """Draw a run's charts by name, each a whole SVG."""
    steps, validation = _lines(run / "telemetry.jsonl"), _lines(run / "validation.jsonl")
    marks = _marks(steps)
    heads = max((len(step["mtp_losses"]) for step in steps), default=0)
    losses = [Line(name="next token, a step", points=_points(steps, "loss"), faint=True)]
    losses.append(Line(name=f"mean of {_SMOOTH_STEPS}", points=_smooth(_points(steps, "loss"))))
    losses += [
        Line(name=f"{head + 2} tokens ahead", points=_smooth(_points(steps, "mtp_losses", head)))
        for head in range(heads)
    ]
    if len(validation) > 1:
        losses.append(Line(name="held out", points=[(v["step"], v["loss"]) for v in validation]))
    return {
        "loss": chart("Loss, nats a token", losses, marks=marks, height=280),
        "categories": chart(
            "Loss on held-out records by category",
            _by_category(validation),
            marks=marks,
            height=300,
        ),
        "rate": chart(
            "Learning rate", [Line(name="rate", points=_points(steps, "lr"))], height=150
        ),
        "load": chart(
            "Largest load of an expert over the mean (MaxVio), by mixture layer",
            _layers(steps, "max_violation"),
            marks=marks,
        ),
        "dead": chart("Experts without a token, by mixture layer", _layers(steps, "dead_experts")),
        "residual": chart(
            "RMS of the residual stream after each layer", _layers(steps, "residual_rms"), log=True
        ),
        "gradients": chart(
            "L2 norm of the weights' gradients", _gradients(steps), marks=marks, log=True
        ),
        "speed": chart(
            "Tokens a second",
            [Line(name="tokens/s", points=_smooth(_points(steps, "tokens_per_s")))],
            height=150,
        ),
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [orjson.loads(line) for line in path.read_bytes().splitlines()]
    except (OSError, orjson.JSONDecodeError) as error:
        raise DataError(
            f"cannot read a run's measures: {error}", where=str(path), fix="name a run's folder"
        ) from error


def _points(
    steps: Sequence[Mapping[str, Any]], name: str, place: int | None = None
) -> list[tuple[float, float]]:
    return [
        (step["step"], step[name] if place is None else step[name][place])
        for step in steps
        if (step[name] if place is None else step[name][place]) is not None
    ]


def _smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average each point with those just before it."""
    smoothed = []
    for i, (x, _) in enumerate(points):
        window = points[max(0, i + 1 - _SMOOTH_STEPS) : i + 1]
        smoothed.append((x, sum(y for _, y in window) / len(window)))
    return smoothed


def _marks(steps: Sequence[Mapping[str, Any]]) -> list[Mark]:
    """Mark where a phase begins, and where the learning rate begins to fall for good."""
    marks = [
        Mark(x=step["step"], name=step["phase"])
        for before, step in itertools.pairwise(steps)
        if step["phase"] != before["phase"]
    ]
    peak = max((step["lr"] for step in steps), default=0.0)
    last = max((step["step"] for step in steps if step["lr"] == peak), default=0)
    if steps and last < steps[-1]["step"] and all(abs(mark.x - last) > 2 for mark in marks):
        marks.append(Mark(x=last, name="decay"))
    return marks


def _layers(steps: Sequence[Mapping[str, Any]], name: str) -> list[Line]:
    """One line a layer; of many layers, some spread over all."""
    count = len(steps[0][name]) if steps else 0
    size = max(1, -(-count // _MOST_LAYERS))
    shown = sorted({*range(0, count, size), count - 1} - {-1})
    return [
        Line(name=f"{place + 1} of {count}", points=_smooth(_points(steps, name, place)))
        for place in shown
    ]


def _gradients(steps: Sequence[Mapping[str, Any]]) -> list[Line]:
    """All weights, embedding, head, multi-token block, and some layers."""
    if not steps:
        return []
    names = list(steps[0]["gradient_norms"])
    layers = [name for name in names if name.startswith("layers.")]
    shown = [name for name in names if name not in layers]
    shown += dict.fromkeys(layers[place] for place in (0, len(layers) // 2, -1) if layers)
    lines = [Line(name="all", points=_smooth(_points(steps, "gradient_norm")))]
    for name in shown:
        points = [(step["step"], step["gradient_norms"][name]) for step in steps]
        lines.append(Line(name=name, points=_smooth(points)))
    return lines


def _by_category(validation: Sequence[Mapping[str, Any]]) -> list[Line]:
    """One line a category, those with most held-out tokens first."""
    if not validation:
        return []
    targets = validation[-1]["targets"]
    names = sorted(targets, key=lambda name: (-targets[name], name))[:_MOST_LAYERS]
    return [
        Line(name=name, points=[(v["step"], v["losses"][name]) for v in validation])
        for name in names
    ]


def _facts(run: Path, steps: Sequence[Mapping[str, Any]]) -> str:
    if not steps:
        return "<p>No step yet.</p>"
    tokens = sum(step["tokens"] for step in steps)
    rows = {
        "steps": f"{steps[-1]['step']:,}",
        "tokens": f"{tokens:,}",
        "loss": f"{steps[0]['loss']:.4f} to {steps[-1]['loss']:.4f}",
        "settings": "run.json" if (run / "run.json").is_file() else "unknown",
    }
    return "<table>" + "".join(f"<tr><td>{k}<td>{v}" for k, v in rows.items()) + "</table>"


def _alarms(steps: Sequence[Mapping[str, Any]]) -> str:
    found = [f"<li>step {s['step']}: {escape(a)}" for s in steps for a in s["alarms"]]
    if not found:
        return "<p>No sign of divergence was seen.</p>"
    return f'<h2>Alarms</h2><ul class="alarm">{"".join(found)}</ul>'


def _categories(validation: Sequence[Mapping[str, Any]]) -> str:
    if not validation:
        return ""
    last = validation[-1]
    rows = "".join(
        f'<tr><td>{escape(name)}<td class="n">{loss:.4f}<td class="n">{last["targets"][name]:,}'
        for name, loss in last["losses"].items()
    )
    return (
        f"<h2>Held out, after step {last['step']:,}</h2>"
        f"<table><tr><th>category<th>loss<th>tokens{rows}</table>"
    )
