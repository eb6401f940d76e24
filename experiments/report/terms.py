"""Terms of the project with definition, symbol and unit; reports and docs/glossary.md show them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Term:
    """A definition, and the symbol and unit where there are any."""

    definition: str
    symbol: str = ""
    unit: str = ""


TERMS: dict[str, Term] = {
    "layout": Term("a hall or table with its obstacles, the starts of all bodies, and the goal"),
    "split": Term("a set of layouts from one generator; no two splits share a layout"),
    "distribution shift": Term("a split that differs on purpose from the training layouts or physics; its name begins with shift-"),
    "episode": Term("one attempt at the task on one layout with one seed"),
    "success": Term("the goal is reached before the time limit"),
    "violation": Term("an event that must not happen, such as a hard contact with an obstacle or a person too close"),
    "safe success": Term("success without any violation"),
    "steps": Term("control steps until success", "T", "1"),
    "method": Term("what decides the actions, such as a planner with a model, a learned policy, or a script"),
    "oracle": Term("the same planner on the true simulator: a reference for what a better model would bring"),
    "world model": Term("a learned model that predicts the next states from the state and the actions"),
    "prediction baseline": Term("a model without learning: bodies stay (static) or keep their velocity (constant velocity)"),
    "search": Term("the optimiser of a planner, such as MPPI or CEM"),
    "samples": Term("plans that a search evaluates in one iteration", "K", "1"),
    "horizon": Term("time that a prediction or plan covers", "H", "s or steps"),
    "particle": Term("one of several sampled futures of the model", "P", "1"),
    "training": Term("one fit of a method, with its own training seed"),
    "env steps": Term("simulator steps that a method learned from", "", "1"),
    "CPU-seconds": Term("processor time spent on collecting data and training", "", "s"),
    "ms per decision": Term("wall time from an observation to an action", "", "ms"),
    "compute costs": Term("data, training time and decision time that a method spends"),
    "95 % interval": Term("range that contains the true value in 95 of 100 such experiments"),
    "Wilson interval": Term("a 95 % interval of a rate that holds for few episodes too (Wilson 1927)"),
    "paired difference": Term("difference between two methods over the episodes that both ran", "Δ", "percentage points or m"),
    "smallest detectable": Term("difference that as many episodes would show in four of five samples", "", "percentage points or m"),
    "cost": Term("distance to go, mean over all steps that an episode may have; zero after success", "c", "m"),
    "predicted cost": Term("cost of a chosen plan in the model", "", "m"),
    "realised cost": Term("cost of the same plan in the true simulator", "", "m"),
    "regret": Term("cost above the best known solution of the same episode", "", "m"),
    "IQM": Term("interquartile mean: mean of the middle half", "", "m"),
    "exploitation": Term("chosen plans cost more than predicted, beyond random plans: the search finds errors of the model"),
    "plan audit": Term("every tenth chosen plan, and random plans, run to their ends in the true simulator"),
    "disagreement": Term("spread of the particles' positions along a plan", "σ", "mm"),
    "missed": Term("realised violations that most particles did not predict", "", "%"),
    "false alarms": Term("predicted violations that were not realised", "", "%"),
    "open-loop error": Term("distance of a prediction from what happened, after the model saw only the first state", "e", "mm or °"),
    "training distance": Term("distance of a layout from the nearest training layout; 1 is the spacing of training layouts", "", "1"),
    "Pareto front": Term("methods for which no other is both cheaper and better"),
}  # fmt: skip

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
