"""What publishers of law mark by style alone: headings, hidden parts, phrases of their sites."""

from __future__ import annotations

import re

# EUR-Lex (Formex to XHTML, both generations) and the Nevada legislature's word processor.
HEADING_CLASSES = {
    "eli-main-title": 1,
    "title-doc-first": 1,
    "title-doc-last": 1,
    "oj-doc-ti": 1,
    "doc-ti": 1,
    "chapter": 1,
    "title-division-1": 2,
    "title-division-2": 3,
    "oj-ti-section-1": 2,
    "oj-ti-section-2": 3,
    "ti-section-1": 2,
    "ti-section-2": 3,
    "title-annex-1": 2,
    "title-annex-2": 3,
    "oj-ti-annex": 2,
    "docheading": 2,
    "docheading2": 3,
    "title-article-norm": 3,
    "title-article-quoted": 4,
    "oj-ti-art": 3,
    "ti-art": 3,
    "stitle-article-norm": 4,
    "stitle-article-quoted": 5,
    "oj-sti-art": 4,
    "sti-art": 4,
    "title-gr-seq-level-1": 3,
    "title-gr-seq-level-2": 4,
    "title-gr-seq-level-3": 5,
    "title-gr-seq-level-4": 6,
    "oj-ti-grseq-1": 3,
    "ti-grseq-1": 3,
    "title-table": 6,
    "oj-ti-tbl": 6,
    "ti-tbl": 6,
}
LONGEST_HEADING = 300
"""Letters of a paragraph beyond which its class does not make it a heading."""

# A word of a class or an id that names a part of the site. Compared whole: `nav` is one, `naval`
# is none; those in the second set also begin longer words (`breadcrumbs`, `footerlinks`).
SITE_WORDS = frozenset(
    "nav navbar navigation menu menubar menus submenu topnav sidenav toc-nav skip skipnav skiplink"
    " skipcontent noindex noprint banner masthead sidebar popup modal toast share sharing social"
    " addthis sitemap sitemappath pager pagination paging login signin disclaimer rightsidebar"
    " leftsidebar sitesearch searchbox searchform globalsearch topbar utilitynav".split()
)
SITE_BEGINNINGS = ("breadcrumb", "footer", "cookie", "navbar", "megamenu")
# Names that count only as a whole class or id; the last line are Nevada's tables of contents.
SITE_NAMES = frozenset(
    "header site-header page-header siteheader pageheader no-print d-print-none hidden-print"
    " print-hide page_header skip-to skip-link back-to-top backtotop usa-banner headerbuttons"
    " region-header region-footer region-sidebar-first region-sidebar-second"
    " cohead1 cohead2 cohead3 cohead4 coleadline".split()
)
HIDDEN_NAMES = frozenset(
    "visually-hidden visuallyhidden sr-only screen-reader-text screenreader element-invisible"
    " usa-sr-only u-hidden hidden offscreen off-screen assistive-text ui-helper-hidden".split()
)

# A block or a link that says nothing but this belongs to the site.
_PHRASES = re.compile(
    r"""(?x)
    (skip|jump)\s(to\s)?([\w']+\s){0,3}(content|navigation|main|menu)
    | back\sto\s(the\s)?([\w']+\s){0,2}(top|search|results?|list|page)
    | (to|go\sto|return\sto)\s?top | top\sof\s(the\s)?page
    | (view\sor\s)?print(er)?([ -]friendly)?(\s(this\s)?(page|version|view))?
    | print\sto\spdf | e-?mail\s(this\s)?page | add\sto\scasemail | share(\sthis(\spage)?)?
    | bookmark(\sthis\spage)? | click\s(here\s)?to\s(view|sort|expand|collapse|print)
    | (show|hide|view)\s(more|less|all|menu) | toggle\s(navigation|menu|search)
    | previous | next | prev | (previous|next)\s(page|section|chapter|article|document|match)
    | first\spage | last\spage | log\s?(in|out) | sign\s?(in|out|up) | register\sfor\salerts
    | (site\s|advanced\s|quick\s)?search(\sthis\ssite|\ssite)? | search\sfor\s(opinions|dockets\b.*)
    | menu | home | close | reset | submit | go | help | site\smap | contact(\sus)? | faqs?
    | (an?\s)?([\w ]+\s)?rss(\sfeeds?)? | subscribe(\sto\s.*)? | .*\bpacer\ssystem
    | \(?opens\sin\s(a\s)?new\s(window|tab)\)? | external\slink
    | javascript.{0,60}(enable|disable)d?.*
    | (main|footer|site|page)\snavigation | breadcrumbs? | learn\smore | quick\slinks
    | original\stext | rate\sthis\stranslation | your\sfeedback\swill\sbe\sused\sto\s.{0,60}
    | (accept|reject|manage)(\sall)?\scookies? | privacy\s(policy|notice) | terms\sof\s(use|service)
    | all\srights\sreserved | (Â?©|\(c\)|copyright)\s?(Â?©\s)?\d{4}.{0,80}
    | (to\sview|you\s(will\s)?need|download).{0,120}adobe\s(acrobat|reader).{0,160}
    | download\s(the\s)?(free\s)?(adobe|reader|acrobat).{0,80}
    | avis\sjuridique\simportant | \| | [_=\s]{5,}
    # Hawaii's pager; the Swedish government's and parliament's databases
    | vol\d{2}_ch[\w-]+
    | föregående | nästa | sökresultat | stäng | visa\sregister | länk\still\sregister
    | post\s\d+\sav\s\d+(\sträffar|\si\s\w+)? | observera\satt\sdet\skan\sförekomma\sfel\si.*
    """,
    re.IGNORECASE | re.DOTALL,
)
LONGEST_PHRASE = 400


def is_site_phrase(text: str) -> bool:
    """Whether a whole block or link is a phrase of the site's, not of the law."""
    return (
        len(text) <= LONGEST_PHRASE and _PHRASES.fullmatch(text.strip(" .:»«<>›‹[]•·")) is not None
    )


def is_menu_line(text: str, linked: int) -> bool:
    """Whether a line is a menu: short parts between bars, most of their letters in links."""
    parts = text.split("|")
    letters = sum(map(str.isalnum, text))
    return len(parts) > 2 and max(map(len, parts)) < _MENU_PART and 2 * linked > letters


_MENU_PART = 48
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def is_site_name(names: str) -> bool:
    """Whether a class attribute or an id says that its element is a part of the site."""
    for name in names.split():
        low = name.lower()
        if low in SITE_NAMES or low in SITE_WORDS or low.startswith(SITE_BEGINNINGS):
            return True
        words = [word.lower() for word in _WORD.findall(name)]
        if any(word in SITE_WORDS or word.startswith(SITE_BEGINNINGS) for word in words):
            return True
    return False
