"""Terms of the project with definition, symbol and unit; reports and docs/glossary.md show them."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path


@dataclass(frozen=True)
class Term:
    """A definition, and the symbol and unit where there are any."""

    definition: str
    symbol: str = ""
    unit: str = ""


TERMS = {name: Term(**term) for name, term in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8")).items()}

_UNTOUCHED = re.compile(r"(<(script|svg|a|td|code)\b.*?</\2>|<[^>]*>)", re.DOTALL)
_LONGEST_FIRST = sorted(map(re.escape, TERMS), key=len, reverse=True)  # "safe success" before "success"
_MENTION = re.compile(rf"\b({'|'.join(_LONGEST_FIRST)})(?:es|s)?\b", re.IGNORECASE)


def link_terms(body: str) -> tuple[str, list[str]]:
    """Link the first mention of each term to its definition, which is a tooltip too.

    Args:
        body: HTML; scripts, images, links, cells of tables and code stay as they are.

    Returns:
        The HTML, and the terms that it mentions.
    """
    missing = {name.lower(): name for name in TERMS}

    def link(match: re.Match[str]) -> str:
        name = missing.pop(match[1].lower(), None)
        if name is None:
            return match[0]
        definition = escape(f"{name}: {TERMS[name].definition}")
        return f'<a class="term" href="#{make_anchor(name)}" title="{definition}">{match[0]}</a>'

    parts = _UNTOUCHED.split(body)  # each text is followed by a tag and the tag's name
    html = "".join(_MENTION.sub(link, part) if i % 3 == 0 else part if i % 3 == 1 else "" for i, part in enumerate(parts))
    return html, [name for name in TERMS if name.lower() not in missing]


def make_anchor(name: str) -> str:
    """Name the anchor of a term."""
    return "term-" + re.sub(r"\W+", "-", name.lower()).strip("-")


def render_definitions(names: Iterable[str]) -> str:
    """Render the definitions of terms as an HTML list."""
    items = []
    for name in names:
        term = TERMS[name]
        unit = f" [{escape(term.unit)}]" if term.unit not in ("", "1") else ""
        items.append(f'<dt id="{make_anchor(name)}">{escape(name)}{unit}</dt><dd>{escape(term.definition)}</dd>')
    return f'<dl class="answers">{"".join(items)}</dl>'
