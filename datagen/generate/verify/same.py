"""Whether two final answers say the same: as amounts with their units, as words, or as formulas."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

# One level of braces inside an argument: \frac{\sqrt{3}}{2}.
_ARGUMENT = r"\{((?:[^{}]|\{[^{}]*\})+)\}"
_TOKEN = r"(\d|[^\W\d_]|\\[A-Za-z]+)"
_FRACTION = re.compile(rf"\\[dtc]?frac\s*(?:{_ARGUMENT}|{_TOKEN})\s*(?:{_ARGUMENT}|{_TOKEN})")
_WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|operatorname|mbox)\s*\{([^{}]*)\}"
)
_MARK = "\x00"  # stands before a single letter that was marked as a unit
_ATOM = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]|\\[A-Za-z]+")
_RAISED = re.compile("[\u207b\u207a]?[\u00b2\u00b3\u00b9\u2070\u2074-\u2079]+")
_VULGAR = re.compile("(?<=[0-9])(?=[\u00bc-\u00be\u2150-\u215e])")
_GROUPED = re.compile(r"(?<=\d)(?:\\[, ]|[\u00a0\u2009\u202f]|\{,\})(?=\d{3}(?!\d))")
_SIGNS = {
    "\u2212": "-",
    "\u2044": "/",
    "\u00d7": "*",
    "\u22c5": "*",
    "\u00b7": "*",
    "\u2264": r"\le ",
    "\u2265": r"\ge ",
    "\u2260": r"\ne ",
    "\u00b1": r"\pm ",
    "\u221e": r"\infty ",
    "\u03c0": r"\pi ",
    "\u221a": r"\sqrt ",
    "\u2248": r"\approx ",
    "\u00b0": " degrees ",
}
_COMMANDS = (
    (re.compile(r"\\(?:left|right|displaystyle|!)(?![A-Za-z])"), ""),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"<=|\\leq(?:slant)?(?![A-Za-z])"), r"\\le "),
    (re.compile(r">=|\\geq(?:slant)?(?![A-Za-z])"), r"\\ge "),
    (re.compile(r"!=|\\neq(?![A-Za-z])"), r"\\ne "),
    (re.compile(r"\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})|\\degree(?![A-Za-z])"), " degrees "),
    (re.compile(r"\\(?:[,;: ]|q?quad(?![A-Za-z]))|[~\u2009\u202f\u00a0]|\\[()\[\]]"), " "),
    (re.compile(r"\{([^\W_])\}"), r"\1"),
)
_POWER = re.compile(r"\s*\*\s*10\s*\^\s*\{?\s*([+-]?\d{1,3})\s*\}?")
_ALONE = re.compile(r"(?<![\w)\]}])\((\s*-?(?:\d+(?:\.\d+)?|\.\d+)\s*)\)")
_LEAD = re.compile(
    r"(?:(?:[^\W\d_]+['\u2019]?[^\W\d_]*,?\s+){0,12}"
    r"(?:is|are|was|were|be|equals|makes|has|have|costs|total|answer)\s*:?\s+)?"
    r"(?:(?:about|approximately|roughly|exactly)\s+)?",
    re.IGNORECASE,
)
_DENIED = re.compile(r"\b(?:no|not|none|never|nobody|neither|cannot|or|if)\b|n['\u2019]t\b", re.I)
_NUMBER = re.compile(
    r"""(?P<sign>[+-]?)\s*(?P<currency>[$\u20ac\u00a3\u00a5])?\s*(?P<after>-?)
        (?: (?P<whole>\d+)\s+(?P<over>\d+)/(?P<under>[1-9]\d*)
          | (?P<top>\d+(?:\.\d+)?)/(?P<bottom>\d*[1-9]\d*(?:\.\d+)?)
          | (?P<plain>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:e(?P<power>[+-]?\d{1,3}))?
        )(?![\d/.,])(?P<rest>.*)""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_REST = re.compile(
    r"(?:\s*(?P<percent>%|percent\b|per\s+cent\b))?"
    r"(?:\s*(?P<scale>dozen|hundred|thousand|million|billion|trillion)\b)?(?P<unit>.*)",
    re.IGNORECASE | re.DOTALL,
)
_SCALES = {"dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6}
_SCALES |= {"billion": 10**9, "trillion": 10**12}
_MONEY = {"$": "dollar", "\u20ac": "euro", "\u00a3": "pound", "\u00a5": "yen"}
_MONEY |= {"usd": "dollar", "eur": "euro", "gbp": "pound", "jpy": "yen"}
_UNIT_WORD = re.compile(rf"{_MARK}?[^\W\d_]+(?:[-'\u2019][^\W\d_]+)*")
_POWERED = re.compile(r"\s*\^?\s*\{?[23]\}?(?![\w.])")
_SHORT_UNITS = frozenset(
    "km cm mm nm kg mg ml cl dl ms hr ft yd mi lb oz hz kw kj kb mb gb tb mph kmh min sec hrs lbs "
    "kwh usd eur gbp cm mol rpm fps am pm".split()
)
_LETTER_UNITS = "mgshlLNJWVKACFTHd"
_LINKS = frozenset("of in on at by us".split())
_MATHS = frozenset(
    "pi tau phi psi theta alpha beta gamma delta epsilon lambda sigma omega mu nu rho xi eta sqrt "
    "root sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp lim max mod inf "
    "infinity deg plus minus times divided over squared cubed factorial choose to than or and not "
    "if up down half halves third thirds quarter quarters fifth fifths tenth tenths hundredth "
    "hundredths thousandth thousandths remainder base".split()
)
_MATHS_NAME = re.compile(rf"\b(?:{'|'.join(sorted(_MATHS - {'to', 'or', 'and', 'not', 'if'}))})\b")
_NAME = re.compile(r"[^\W\d_](?:_\{?\w+\}?)?'?")
_ARTICLES = re.compile(
    r"(?<![\\\w])(?:the|[Aa]n?)\s+(?=[^\W\d_]{2})|(?<![\\\w])(?:the|an)\s+(?=\w)"
)
_FOLDED = re.compile(r"(?<![\\A-Za-z])[^\W\d_]{2,}")
_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})[-\u2010\u2011](?=[^\W\d_]{2})|\s[\u2013\u2014]\s")
_LONG_WORD = re.compile(r"[^\W\d_]{3}")
_OPERATOR = re.compile(
    r"[-+*/^=<>()\[\]{}|\\_%~&#@\u2013\u2014]|[\d\W]!|\b[^\W\d_]!|(?<=\d)[.,:](?=\d)|(?<!\w)\.(?=\d)"
    r"|\b[^\W\d_]'(?![^\W\d_])|[^\W\d_],[^\W\d_]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A number as it was written: its value, whether in per cent, its unit, and what it is of.

    `unit` is lower case and singular, with currencies by name. `name` is the variable before `=`.
    """

    value: Fraction
    percent: bool = False
    unit: str = ""
    name: str = ""


def agrees(said: str, right: str) -> bool:
    """Whether two final answers are one: as amounts where both are, else word by word and sign by
    sign.

    Each answer agrees with itself, and the order of the two does not matter.
    """
    if said.strip() == right.strip():
        return True
    one, other = read_number(said), read_number(right)
    if one is not None and other is not None:
        return same_number(one, other)
    return bool(normal(said)) and normal(said) == normal(right)


def read_number(text: str, units: Sequence[str] = ()) -> Amount | None:
    """The number that a short text is, with its unit; None for none, several, or a formula.

    Before it may stand a currency, a clause that leads to it (`It is 7.`) and what it equals
    (`3 + 4 = 7`, `x = 7`); behind it a unit in words. A single letter is a unit only if it is one
    of `units` or set upright (`5\\ \\text{m}`): in `5m` it may be a variable.
    """
    text = _written(text)
    if letters := "".join(unit for unit in units if len(unit) == 1 and unit.isalpha()):
        text = re.sub(rf"(?<=[\d\s])([{letters}])(?![\w{_MARK}])", rf"{_MARK}\1", text)
    text = re.sub(r"(?<=\d)\s*/\s*(?=\d)", "/", _ALONE.sub(r"\1", text))
    text = _POWER.sub(r"e\1", re.sub(r"\\([%$])", r"\1", text))
    *names, last = re.split(r"=|\\approx(?![A-Za-z])", text)
    if any(not _leads(name) for name in names):
        return None
    last = _ends_off(re.sub(r"^\{(.*)\}$", r"\1", last.strip(" *`\n")))
    lead = _LEAD.match(last)
    if lead is not None:
        if _DENIED.search(lead[0]):
            return None
        last = last[lead.end() :]
    found = _NUMBER.fullmatch(last.strip())
    return _amount(found, names[-1].strip() if names else "") if found else None


def _leads(name: str) -> bool:
    """Whether what stands before `=` is that number itself: no condition on a part of it.

    `3 + 4`, `x`, `\\angle ABC` and `x + y` are; `2x`, `-x` and `x = 3, y` are not.
    """
    bare = re.sub(r"\([^()]*\)", "", name).strip()
    if not bare or re.search(r"[<>!;:]|,(?!\d{3})|\\(?:le|ge|ne|pm)(?![A-Za-z])", bare):
        return False
    if _DENIED.search(bare) or re.search(r"\band\b", bare):
        return False
    if not re.search(r"[^\W\d_]", bare):
        return True
    return not bare.startswith("-") and not re.search(r"(?<!_)(?<!_\{)\d", bare)


def _amount(mark: re.Match[str], name: str) -> Amount | None:
    """The amount of a number that covers its text; None where what follows is no unit."""
    rest = _REST.fullmatch(mark["rest"])
    unit = _unit(rest["unit"]) if rest else None
    if rest is None or unit is None or (mark["sign"] and mark["after"]):
        return None
    if mark["whole"]:
        if int(mark["over"]) >= int(mark["under"]):
            return None
        value = int(mark["whole"]) + Fraction(int(mark["over"]), int(mark["under"]))
    elif mark["top"]:
        value = Fraction(mark["top"]) / Fraction(mark["bottom"])
    else:
        value = Fraction(mark["plain"].replace(",", "")) * Fraction(10) ** int(mark["power"] or 0)
    value *= _SCALES.get((rest["scale"] or "").lower(), 1)
    money = _MONEY.get(mark["currency"] or "", "")
    if money and unit.split(" ")[0] == money:
        money = ""
    return Amount(
        value=-value if "-" in (mark["sign"], mark["after"]) else value,
        percent=rest["percent"] is not None,
        unit=f"{money} {unit}".strip(),
        name=name if _NAME.fullmatch(name) else "",
    )


def _unit(text: str) -> str | None:
    """A unit in its one form, empty where there is none; None where a text is something else."""
    apart, text = text[:1].isspace(), text.strip()
    if text in _MONEY:
        return _MONEY[text]
    if not text:
        return ""
    words, place = [], 0
    ratio = re.fullmatch(r"[^\W\d_]{1,4}/[^\W\d_]{1,4}", text.replace(_MARK, ""))
    if ratio:
        parts = ratio[0].casefold().split("/")
        known = all(part in _SHORT_UNITS or part in _LETTER_UNITS.casefold() for part in parts)
        return ratio[0].casefold() if known else None
    while place < len(text):
        found = _UNIT_WORD.match(text, place)
        if found is None or not _is_unit(found[0], attached=not apart and place == 0):
            return None
        words.append(unit_form(found[0]))
        place = found.end()
        if powered := _POWERED.match(text, place):
            words[-1] += f"^{re.sub(r'[^23]', '', powered[0])}"
            place = powered.end()
        gap = re.match(r"\s*[/,]\s*|\s+|$", text[place:])
        if gap is None:
            return None
        place += gap.end()
    return " ".join(words) if len(words) <= 6 else None


def _is_unit(word: str, *, attached: bool) -> bool:
    plain = word.casefold()
    if word.startswith(_MARK) or any(ord(character) > 0x3FF for character in plain):
        return True
    if plain in _SHORT_UNITS:
        return True
    return not attached and plain not in _MATHS and (len(plain) > 2 or plain in _LINKS)


def unit_form(unit: str) -> str:
    """The one form of a word for a unit: lower case, singular, currencies by name."""
    plain = unit.strip().casefold().replace(_MARK, "")
    plain = _MONEY.get(plain, plain)
    return plain[:-1] if len(plain) > 3 and plain.endswith("s") else plain


def same_number(said: Amount, right: Amount, *, tolerance: float = 0.0) -> bool:
    """Whether two amounts are equal: 50% is 0.5, and is 50 too where only the sign is missing.

    Up to one, where a share and a percentage may be confused, only the share counts. A unit or a
    name that only one of them has does not count; two that differ do.
    """

    def near(one: Fraction, other: Fraction) -> bool:
        return abs(one - other) <= Fraction(tolerance) * abs(other)

    if said.unit and right.unit and said.unit != right.unit:
        return False
    if said.name and right.name and said.name != right.name:
        return False
    if said.percent == right.percent:
        return near(said.value, right.value)
    percent, bare = (said, right) if said.percent else (right, said)
    if near(percent.value / 100, bare.value):
        return True
    return abs(percent.value) > 1 and near(percent.value, bare.value)


def normal(text: str) -> str:
    """A text without case, articles and sentence marks; in a formula every sign stays.

    Spacing and the spelling of fractions, roots and signs in LaTeX do not count.
    """
    text = _ends_off(_written(text).replace(_MARK, "").strip(" *`\"'\u201c\u201d\n"))
    folded = _FOLDED.sub(lambda word: word[0].casefold(), text)
    bare = _ARTICLES.sub("", folded)
    words = bare if _MATHS_NAME.search(bare) else _HYPHEN.sub(" ", bare)
    listed = "," in words.rstrip(",") and not _LONG_WORD.search(words)
    if not listed and not _OPERATOR.search(words):
        words = "".join(" " if unicodedata.category(c)[0] in "PZ" else c for c in words)
        return " ".join(words.casefold().split())
    bare = re.sub(r"\\([%$&#])", r"\1", bare)
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", bare)


def unwrapped(text: str) -> str:
    """A text without the LaTeX that sets words upright."""
    return _WRAPPED.sub(r"\1", text)


def _written(text: str) -> str:
    """A text in one spelling of signs, fractions and spaces, without marks of mathematics."""
    text = text.replace(_MARK, "")
    text = _RAISED.sub(lambda raised: _raised(raised[0]), _VULGAR.sub(" ", text))
    text = _GROUPED.sub("", text)
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    text = unicodedata.normalize("NFKC", text).replace("\u2044", "/").replace("\u2212", "-")
    text = _WRAPPED.sub(_word, text)
    for found, plain in _COMMANDS:
        text = found.sub(plain, text)
    while (shorter := _FRACTION.sub(_over, text)) != text:
        text = shorter
    text = text.strip()
    if (inner := re.fullmatch(r"\$\$?([^$].*[^\\$]|[^\\$])\$\$?(.?)", text, re.DOTALL)) is not None:
        text = (inner[1] + inner[2]).strip()
    return re.sub(r"(?<!\\)\$(?=[^$]*[^\\$\s\d.,])([^$]+)(?<!\\)\$", r"\1", text)


def _raised(text: str) -> str:
    power = unicodedata.normalize("NFKC", text).replace("\u2212", "-")
    return f"^{power}" if len(power) == 1 else f"^{{{power}}}"


def _word(mark: re.Match[str]) -> str:
    inner = mark[1].strip()
    if len(inner) == 1 and inner in _LETTER_UNITS:
        return f" {_MARK}{inner} "
    return f" {mark[1]} "


def _over(mark: re.Match[str]) -> str:
    """A fraction on one line, in brackets where its neighbours would change what it says."""
    top, bottom = (mark[1] or mark[2]).strip(), (mark[3] or mark[4]).strip()
    if re.search(r"[-+/]", top[1:]) or top.startswith("+"):
        top = f"({top})"
    if not _ATOM.fullmatch(bottom) and not re.fullmatch(r"\\sqrt\s*\w", bottom):
        bottom = f"({bottom})"
    before, after = mark.string[: mark.start()].rstrip(), mark.string[mark.end() :].lstrip()
    said = f"{top}/{bottom}"
    if before.endswith(("/", "^", "_", r"\sqrt")) or after.startswith(("^", "/")):
        return f"{{{said}}}" if before.endswith(("^", "_", r"\sqrt")) else f"({said})"
    return f" {said} " if before[-1:].isdigit() else said


def _ends_off(text: str) -> str:
    """A text without the marks that end a sentence."""
    return re.sub(r"(?:[\s.,;:?*`]|(?<=[^\W\d_]{2})!)+$", "", text)
