"""Arithmetic that a model wrote, computed again: exact, by a parser of its own, never by `eval`.

evaluate("12 * (4 + 1)")                          # Fraction(60)
wrong_equation("She sold 48/2 = 25 clips.")       # "48 / 2 = 25, which is 24"
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

_LONGEST_CHARACTERS = 200
_LARGEST_EXPONENT = 12
_LARGEST = 10**15
_DECIMALS = 4
_TOKEN = re.compile(
    r"(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"|(?P<power>\*\*|\^)|(?P<op>[-+*/])|(?P<open>[(\[])|(?P<close>[)\]])"
    r"|(?P<percent>%)|(?P<equals>≈|~?=+)|(?P<word>[^\W\d_]+(?:['’-][^\W\d_]+)*)"
    r"|(?P<end>\.(?=\s|$)|[,;:!?\n])|(?P<space>[^\S\n]+)|(?P<other>.)",
    re.DOTALL,
)
_SAME = str.maketrans(
    {"×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-", "∙": "*", "⁄": "/"}
)
_MONEY = re.compile(r"[$€£¥]")
_TIMES = re.compile(r"(?<=[\d)%\s])[xX](?=\s*[($€£¥]*\.?\d)")
_SUPERSCRIPT = re.compile(r"([^\W\d_])?[⁰¹²³⁴-⁹]+|⁻[⁰¹²³⁴-⁹]+")
# What a number beside these comes to is not what its digits say.
_CHANGING = frozenset(
    "sqrt cbrt root max min log ln exp sin cos tan abs floor ceil ceiling round sum mean average "
    "gcd lcm mod modulo remainder squared cubed half third quarter twice double triple percent of "
    "hundred thousand million billion dozen".split()
)
# Behind these a sentence begins to compute anew: "half of 50 is 50 / 2 = 25".
_BEGINS = frozenset("is are was were be so then makes make equals gives get gets thus".split())
_WORDS_BESIDE = 2
_MEASURES = [
    frozenset(words.split())
    for words in (
        "second minute hour day week month year",
        "cent dollar penny dime quarter",
        "inch foot feet yard mile centimetre centimeter metre meter kilometre kilometer cm m km",
        "gram kilogram ounce pound ton kg lb oz",
        "litre liter millilitre milliliter cup pint quart gallon ml",
    )
]


class NotArithmetic(ValueError):
    """A text that is no expression of numbers, or one that cannot be computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    kind: str
    text: str


def evaluate(expression: str) -> Fraction:
    """Compute an expression of numbers, `+ - * / ** % ( )`, exactly; raises `NotArithmetic`.

    Understands `×`, `÷`, `x` between numbers, currency signs, thousands separators, and a per
    cent sign after a number or a bracket as a hundredth. Bounds: 200 characters, exponents of 12,
    values of 10**15.
    """
    if len(expression) > _LONGEST_CHARACTERS:
        raise NotArithmetic(f"longer than {_LONGEST_CHARACTERS} characters")
    tokens = [token for token in _tokens(expression) if token.kind != "space"]
    for token in tokens:
        if token.kind not in ("number", "op", "power", "open", "close", "percent"):
            raise NotArithmetic(f"{token.text!r} is no number and no operator")
    if not tokens:
        raise NotArithmetic("empty")
    return _Parser(tokens).whole()


def operands(expression: str) -> list[Fraction]:
    """The numbers that an expression is made of, in order."""
    return [_value(token.text) for token in _tokens(expression) if token.kind == "number"]


def tidy(expression: str) -> str:
    """An expression with one space around each operator, in plain signs: `48×2` -> `48 * 2`."""
    return _shown([token for token in _tokens(expression) if token.kind != "space"])


def plain(value: Fraction) -> str | None:
    """A value as people write it, `48` or `2.5`; None where four decimals do not hold it."""
    if value.denominator == 1:
        return str(value.numerator)
    scaled = value * 10**_DECIMALS
    if scaled.denominator != 1:
        return None
    sign = "-" if value < 0 else ""
    whole, decimals = divmod(abs(scaled.numerator), 10**_DECIMALS)
    return f"{sign}{whole}.{decimals:0{_DECIMALS}d}".rstrip("0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Equation:
    """An equation found in a text: its sides as written, and what each comes to."""

    left: str
    right: str
    left_value: Fraction
    right_value: Fraction
    rounded: bool

    @property
    def holds(self) -> bool:
        """Whether both sides are equal, the right one rounded to the decimals that it has."""
        if self.left_value == self.right_value:
            return True
        if ("%" in self.left) != ("%" in self.right) and (
            self.left_value == self.right_value * 100 or self.right_value == self.left_value * 100
        ):
            return True
        decimals = len(self.right.rpartition(".")[2]) if "." in self.right else 0
        if not decimals and not self.rounded:
            return False
        unit = Fraction(1, 10**decimals)
        return abs(self.left_value - self.right_value) <= unit / (1 if self.rounded else 2)


def equations(text: str) -> list[Equation]:
    """Every `a op b = c` of a text, chains link by link: `2 * 3 = 5 + 1 = 6` gives two.

    Words before an equation and units after its numbers are passed over: `4 boxes * 3 apples = 12
    apples`. An equals sign without numbers on both sides, with algebra, or between measures of one
    kind (`2 hours = 2 * 60 minutes`) is no equation here; nor is one beside a function or a word
    that changes a number: `sqrt(16) + 2 = 6`, `half of 12 + 3 = 9`, `17 / 5 = 3 remainder 2`.
    """
    found = []
    tokens = _tokens(text)
    for place, token in enumerate(tokens):
        if token.kind != "equals":
            continue
        left, before = _side(tokens[:place], back=True)
        right, behind = _side(tokens[place + 1 :], back=False)
        if any(len(kind & (before | behind)) > 1 for kind in _MEASURES):
            continue
        if _changed(tokens[:place], left, back=True) or _changed(
            tokens[place + 1 :], right, back=False
        ):
            continue
        computes = [any(t.kind in ("op", "power") for t in side) for side in (left, right)]
        if not left or not right or not any(computes) or (before and not computes[0]):
            continue
        try:
            values = _Parser(left).whole(), _Parser(right).whole()
        except NotArithmetic:
            continue
        found.append(
            Equation(
                left=_shown(left),
                right=_shown(right),
                left_value=values[0],
                right_value=values[1],
                rounded=token.text in ("≈", "~="),
            )
        )
    return found


def wrong_equation(text: str) -> str | None:
    """The first equation of a text that does not hold, with what it should say; or None."""
    for equation in equations(text):
        if not equation.holds:
            value = plain(equation.left_value) or f"{float(equation.left_value):.6g}"
            return f"{equation.left} = {equation.right}, which is {value}"
    return None


def last_value(text: str) -> Fraction | None:
    """What the last number of a text is: where a worked solution ends."""
    numbers = [token for token in _tokens(text) if token.kind == "number"]
    return _value(numbers[-1].text) if numbers else None


def _tokens(text: str) -> list[_Token]:
    # Of a unit, as in cm², it is no power of the number before.
    raised = _SUPERSCRIPT.sub(lambda found: found[1] or f"**{found[0]}", text.translate(_SAME))
    plain_text = unicodedata.normalize("NFKC", raised).translate(_SAME)
    plain_text = _TIMES.sub("*", _MONEY.sub("", plain_text))
    return [
        _Token(kind=match.lastgroup or "other", text=match[0])
        for match in _TOKEN.finditer(plain_text)
    ]


def _value(number: str) -> Fraction:
    return Fraction(number.replace(",", ""))


def _shown(tokens: Sequence[_Token]) -> str:
    text = " ".join(token.text for token in tokens)
    return text.replace("( ", "(").replace(" )", ")").replace(" %", "%")


def _side(tokens: Sequence[_Token], *, back: bool) -> tuple[list[_Token], set[str]]:
    """The expression that ends at the end of `tokens` (or begins at its beginning), and its units.

    It ends at anything that is neither number, operator, bracket nor a unit, and where words part
    two numbers. Empty where it cannot be read whole: algebra, `24(1/3)`, `1 1/2`.
    """
    ordered = [*reversed(tokens)] if back else list(tokens)
    taken: list[_Token] = []
    unit = False
    units: set[str] = set()
    stopped: _Token | None = None
    for token in ordered:
        if token.kind == "space":
            continue
        if token.kind == "word":
            if len(token.text) == 1 and token.text not in "aAI":
                return [], units
            if not back and not taken:
                break
            unit = True
            units.add(token.text.casefold().removesuffix("s"))
            continue
        if token.kind not in ("number", "op", "power", "open", "close", "percent"):
            stopped = token
            break
        if taken and _operand_next(taken[-1], back) == _operand_next(token, back, first=True):
            if unit:
                break
            return [], units
        if unit and taken and not _unit_fits(taken[-1], token, back):
            break
        unit = False
        taken.append(token)
    if taken and taken[-1].kind in ("op", "power"):
        last = taken[-1].text
        if back and not (last == "-" and (stopped is None or stopped.kind == "equals")):
            return [], units
        if not back and (last != "/" or not unit):
            return [], units
        if not back:
            taken.pop()
    return _balanced([*reversed(taken)] if back else taken, back), units


def _changed(tokens: Sequence[_Token], side: Sequence[_Token], *, back: bool) -> bool:
    """Whether words in or beside a side, or a root sign, make it another number than it says.

    Behind a result, `of` changes it only where it comes next: `36 pieces of cake` are 36.
    """
    wanted, seen, words = len(side), 0, 0
    for token in reversed(tokens) if back else tokens:
        if token.kind == "space":
            continue
        if token.kind != "word":
            if seen >= wanted:
                return token.text in "√∛"
            # By identity, for a bracket that was cut off is no part of the side.
            seen += any(token is part for part in side)
            continue
        word = token.text.casefold()
        if seen >= wanted:
            words += 1
            if back and word in _BEGINS:
                return False
        if word in _CHANGING and (back or word != "of" or words <= 1):
            return True
        if words >= _WORDS_BESIDE + (not back):
            return False
    return False


def _unit_fits(last: _Token, token: _Token, back: bool) -> bool:
    """Whether words between two tokens are a unit: a number before them, an operator after."""
    before, after = (token, last) if back else (last, token)
    return before.kind in ("number", "close", "percent") and after.kind in ("op", "power", "close")


def _operand_next(token: _Token, back: bool, *, first: bool = False) -> bool:
    """Whether an operand is due after `token` (with `first`: whether `token` begins one)."""
    if first:
        begins = ("number", "close", "percent") if back else ("number", "open")
        return token.kind not in begins
    due = ("op", "power", "close", "percent") if back else ("op", "power", "open")
    return token.kind in due


def _balanced(tokens: list[_Token], back: bool) -> list[_Token]:
    """The longest end (or beginning) of an expression in which no bracket lacks its other half."""
    for cut in range(len(tokens)):
        part = tokens[cut:] if back else tokens[: len(tokens) - cut]
        depth = 0
        for token in part:
            depth += {"open": 1, "close": -1}.get(token.kind, 0)
            if depth < 0:
                break
        if depth == 0:
            # What an argument list or a cut bracket hides may be anything: `max(3, 4) + 1 = 5`.
            cut_off = tokens[:cut] if back else []
            return [] if any(token.kind == "close" for token in cut_off) else part
    return []


class _Parser:
    """Precedence climbing over tokens: sums of products of signed powers."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tokens
        self._place = 0

    def whole(self) -> Fraction:
        value = self._sum()
        if self._place < len(self._tokens):
            raise NotArithmetic(f"{self._tokens[self._place].text!r} without an operator before it")
        return value

    def _peek(self) -> _Token | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _takes(self, kind: str, texts: str = "") -> str | None:
        token = self._peek()
        if token is None or token.kind != kind or (texts and token.text not in texts):
            return None
        self._place += 1
        return token.text

    def _sum(self) -> Fraction:
        value = self._product()
        while sign := self._takes("op", "+-"):
            other = self._product()
            value = _bounded(value + other if sign == "+" else value - other)
        return value

    def _product(self) -> Fraction:
        value = self._signed()
        while sign := self._takes("op", "*/"):
            other = self._signed()
            if sign == "/" and other == 0:
                raise NotArithmetic("division by zero")
            value = _bounded(value * other if sign == "*" else value / other)
        return value

    def _signed(self) -> Fraction:
        negative = False
        while sign := self._takes("op", "+-"):
            negative ^= sign == "-"
        value = self._power()
        return -value if negative else value

    def _power(self) -> Fraction:
        value = self._operand()
        if not self._takes("power"):
            return value
        exponent = self._signed()
        if exponent.denominator != 1 or abs(exponent) > _LARGEST_EXPONENT:
            raise NotArithmetic(f"exponent {exponent} is no whole number up to {_LARGEST_EXPONENT}")
        if value == 0 and exponent < 0:
            raise NotArithmetic("division by zero")
        return _bounded(Fraction(value ** int(exponent)))

    def _operand(self) -> Fraction:
        if self._takes("open"):
            value = self._sum()
            if not self._takes("close"):
                raise NotArithmetic("a bracket is not closed")
        elif number := self._takes("number"):
            value = _bounded(_value(number))
        else:
            token = self._peek()
            raise NotArithmetic(
                f"a number is missing before {token.text if token else 'the end'!r}"
            )
        return value / 100 if self._takes("percent") else value


def _bounded(value: Fraction) -> Fraction:
    if abs(value) > _LARGEST or value.denominator > _LARGEST:
        raise NotArithmetic("beyond 10**15")
    return value
