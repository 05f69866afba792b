"""A chart is well-formed, keeps inside its frame, and says what it leaves out."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st

from datagen.report.plot import Line, Mark, chart

VALUES = st.floats(-1e12, 1e12, allow_nan=False) | st.just(float("nan")) | st.just(float("inf"))


@given(st.lists(VALUES, max_size=40), st.booleans(), st.text(max_size=8))
def test_any_line_is_drawn_inside_the_frame(values: list[float], log: bool, name: str) -> None:
    printable = "".join(c for c in name if c.isprintable())
    line = Line(name=printable, points=list(enumerate(values)))
    svg = chart("<title> & more", [line], marks=[Mark(x=0, name=printable)], log=log)
    ElementTree.fromstring(svg)
    for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", "".join(re.findall(r'points="(.*?)"', svg))):
        assert 0 <= float(x) <= 760 and 0 <= float(y) <= 240


def test_a_long_line_is_thinned_to_means() -> None:
    svg = chart("t", [Line(name="a", points=[(i, i % 2) for i in range(6000)])])
    [points] = re.findall(r'points="(.*?)"', svg)
    assert len(points.split()) == 300
    assert len({point.split(",")[1] for point in points.split()}) == 1


def test_nothing_measured_is_said() -> None:
    assert "nothing was measured" in chart("t", [Line(name="a", points=[])])
    assert "nothing was measured" in chart("t", [Line(name="a", points=[(1, -1.0)])], log=True)
