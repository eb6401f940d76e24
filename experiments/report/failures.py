"""An arm's worst episodes: which they are, what went wrong in each, and how that is shown."""

from collections.abc import Callable, Mapping, Sequence
from html import escape

from experiments.methods.method import arm_of, label
from experiments.report import pieces
from experiments.report.pairs import episode_cost
from experiments.report.summary import Row, violations_of
from experiments.report.topdown import colours_say, strip
from sim.data.store import Episode

SHOWN = 8


def worst(rows: Sequence[Row]) -> list[Row]:
    """Unsolved episodes first, then those with a violation, the hardest contact first; none that was solved cleanly."""
    bad = [row for row in rows if not row["clean"]]
    return sorted(bad, key=lambda row: (bool(row["success"]), -episode_cost(row) if not row["success"] else -row["peak_force_n"]))


def told(row: Row, rows: Sequence[Row]) -> str:
    """What went wrong, and who did better in the same episode."""
    kinds = [kind.replace("_", " ") for kind in violations_of(rows) if row[kind]]
    wrong = [] if row["success"] else [f"not solved in {row['steps']} steps"]
    force = f", {row['peak_force_n']:,.0f} N" if row["peak_force_n"] > 0 else ""
    wrong += [f"{', '.join(kinds)}{force}"] if kinds else []
    same = [other for other in rows if (other["layout_id"], other["seed"]) == (row["layout_id"], row["seed"])]
    better = dict.fromkeys(arm_of(other) for other in same if other["clean"] and arm_of(other) != arm_of(row))
    rivals = f"clean by {', '.join(better)}" if better else "by no arm without violation"
    return f"{'; '.join(wrong)}; solved {rivals}"


def section(
    arm: str, own: Sequence[Row], rows: Sequence[Row], episode_of: Callable[[Row], Episode], links: Mapping[int, str]
) -> str:
    """The worst episodes of one arm from above; `links` to recordings by the row's id()."""
    bad = worst(own)
    if not bad:
        return ""
    drawn = []
    episodes = [episode_of(row) for row in bad[:SHOWN]]
    for row, episode in zip(bad, episodes, strict=False):
        name = label(f"{row['split']}/{row['index']}", row.get("train_seed"))
        address = links.get(id(row))
        link = f' <a href="{escape(address)}">watch in 3-D</a>' if address else ""
        text = f"<b>{escape(name)}</b> {escape(told(row, rows))}.{link}"
        drawn.append(f"<figure>{strip([('', episode)])}<figcaption>{text}</figcaption></figure>")
    unsolved = sum(not row["success"] for row in bad)
    says = (
        f"{arm}: {unsolved} of {len(own)} episodes not solved, {len(bad) - unsolved} solved with a violation; "
        f"the {len(drawn)} worst. {colours_say(episode.layout for episode in episodes)}"
    )
    return pieces.section("Where it fails", says, f'<div class="episodes">{"".join(drawn)}</div>')
