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


def link_terms(body: str) -> tuple[str, list[str]]:
    """Link the first mention of each term in a page's body to its definition, which is shown as a tooltip too.

    Args:
        body: HTML; scripts, pictures, links, cells of tables and code stay as they are.

    Returns:
        The HTML, and the terms that it mentions.
    """
    missing = dict(sorted(TERMS.items(), key=lambda item: -len(item[0])))  # "safe success" before "success"
    parts = _UNTOUCHED.split(body)
    for position in range(0, len(parts), 3):  # each text is followed by a tag and the tag's name
        if missing and parts[position].strip():
            pattern = "|".join(rf"\b{re.escape(escape(name))}(?:s|es)?\b" for name in missing)
            parts[position] = re.sub(pattern, lambda match: _link(match[0], missing), parts[position], flags=re.IGNORECASE)
        if position + 2 < len(parts):
            parts[position + 2] = ""
    return "".join(parts), [name for name in TERMS if name not in missing]


def _link(text: str, missing: dict[str, Term]) -> str:
    """Link a mention where it is the first one."""
    spellings = (text.lower(), text.lower().removesuffix("s"), text.lower().removesuffix("es"))
    name = next((name for name in missing if name.lower() in spellings), None)
    if name is None:
        return text
    definition = missing.pop(name).definition
    return f'<a class="term" href="#{make_anchor(name)}" title="{escape(f"{name}: {definition}")}">{text}</a>'


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
