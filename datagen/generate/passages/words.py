"""Words compared by stem, and what a text says that its source does not."""

from __future__ import annotations

import re

from datagen.generate.passages.spans import find_spans

STOP_WORDS = frozenset(
    re.findall(
        r"\S+",
        "a about also an and are as at be been before between but by can could did do does "
        "during each first for from had has have he her him his how if in into is it its many "
        "more most much not of on one only or other over she so some such than that the their "
        "them then there these they this those to under until was were what when where which "
        "who whom whose will with would",
    )
)
_PAST = {
    "arise": "arose arisen", "beat": "beaten", "become": "became", "begin": "began begun",
    "break": "broke broken", "bring": "brought", "build": "built", "buy": "bought",
    "catch": "caught", "choose": "chose chosen", "come": "came", "cost": "", "cut": "",
    "die": "died", "do": "did done", "draw": "drew drawn", "drive": "drove driven",
    "fall": "fell fallen", "feel": "felt", "fight": "fought", "find": "found",
    "flee": "fled", "fly": "flew flown", "forbid": "forbade forbidden", "get": "got gotten",
    "give": "gave given", "go": "went gone", "grow": "grew grown", "hang": "hung",
    "have": "had has", "hear": "heard", "hit": "", "hold": "held", "keep": "kept",
    "know": "knew known", "lead": "led", "leave": "left", "lend": "lent", "lie": "lay lain",
    "lose": "lost", "make": "made", "mean": "meant", "meet": "met", "pay": "paid", "put": "",
    "read": "", "ride": "rode ridden", "rise": "rose risen", "run": "ran", "say": "said",
    "see": "saw seen", "sell": "sold", "send": "sent", "set": "", "shine": "shone",
    "shoot": "shot", "show": "showed shown", "sing": "sang sung", "sink": "sank sunk",
    "sit": "sat", "speak": "spoke spoken", "spend": "spent", "split": "", "spread": "",
    "stand": "stood", "steal": "stole stolen", "strike": "struck stricken",
    "swim": "swam swum", "take": "took taken", "teach": "taught", "tell": "told",
    "think": "thought", "throw": "threw thrown", "understand": "understood", "wear": "wore worn",
    "win": "won", "write": "wrote written",
}  # fmt: skip
_BASE = {form: base for base, forms in _PAST.items() for form in forms.split()}
_PARTICIPLES = frozenset(form for forms in _PAST.values() for form in forms.split()[-1:]) | {
    base for base, forms in _PAST.items() if not forms
} | {"born", "become", "come", "run"}  # fmt: skip
_SIMPLE_PAST = frozenset(form for forms in _PAST.values() for form in forms.split()[:1]) - {""}


def words(text: str) -> list[str]:
    """The words and numbers of a text, lower-case, hyphens and apostrophes kept inside them."""
    return [word.lower() for word in re.findall(r"[^\W_]+(?:[’'.,-][^\W_]+)*", text)]


def stem(word: str) -> str:
    """A rough stem under which the forms of an English word fall together: began -> begin."""
    word = re.sub(r"[’']s$", "", word)
    word = _BASE.get(word, word)
    for ending in ("ing", "ied", "ies", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def content_stems(text: str) -> list[str]:
    """The stems of the words that carry meaning, in order."""
    return [stem(word) for word in words(text) if word not in STOP_WORDS]


def new_words(text: str, source: str) -> list[str]:
    """The content words of `text` that no form of a word in `source` accounts for."""
    known = {stem(word) for word in words(source)}
    return [word for word in words(text) if word not in STOP_WORDS and stem(word) not in known]


def new_names(text: str, source: str) -> list[str]:
    """The names, dates and numbers of `text` whose words `source` lacks."""
    known = {stem(word) for word in words(source)}
    spans = [span for span in find_spans(text) if span.start > 0 or span.kind != "name"]
    return [span.text for span in spans if not {stem(w) for w in words(span.text)} <= known]


def is_participle(word: str) -> bool:
    """Whether a form may follow "was" or "has": founded, written, born."""
    return word.endswith("ed") or word in _PARTICIPLES


def is_past(word: str) -> bool:
    """Whether a form may stand as a verb in the past: founded, wrote."""
    return word.endswith("ed") or word in _SIMPLE_PAST or (word in _PAST and not _PAST[word])


def base_forms(verb: str) -> list[str]:
    """The forms that may follow "did" for a verb; several where its spelling leaves it open."""
    if verb in _BASE:
        return [_BASE[verb]]
    if verb.endswith("ied") or verb.endswith("ies"):
        return [verb[:-3] + "y", verb[:-1]] if len(verb) > 4 else [verb[:-1]]
    if verb.endswith("ed") and len(verb) > 4:
        root = verb[:-2]
        if root[-1] == root[-2] and root[-1] not in "lsz":
            return [root[:-1]]
        return [root, root + "e"]
    if verb.endswith("s") and not verb.endswith("ss") and len(verb) > 3:
        return [verb[:-2], verb[:-1]] if verb.endswith("es") else [verb[:-1]]
    return [verb]


def runs_in(part: str, text: str) -> bool:
    """Whether the words of `part` stand in `text` one after another."""
    return bool(words(part)) and f" {' '.join(words(part))} " in f" {' '.join(words(text))} "
