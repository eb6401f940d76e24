"""What else a scene tells of its episodes: medians and the middle half, by arm."""

from collections.abc import Sequence

from experiments.report.measured import file_of
from experiments.report.pairs import ranked
from experiments.report.pieces import section, table
from experiments.report.summary import Row, indicators_of
from sim.scenes.scene import scenes


def indicators(rows: Sequence[Row], command: str) -> str:
    """All splits together; nothing where the scene tells nothing, or the rows are older."""
    told = scenes[rows[0]["scene"]].indicators
    own = {agent: [row for row in rows if row["agent"] == agent] for agent in ranked(rows)}
    found = {agent: indicators_of(some) for agent, some in own.items()}
    if told is None or not any(found.values()):
        return ""
    cells = [
        (agent, str(len(own[agent])), *(str(some.get(name, "–")) for name in told.descriptions)) for agent, some in found.items()
    ]
    records = [
        {"agent": agent, "indicator": name, "median": one.median, "q25": one.low, "q75": one.high}
        for agent, some in found.items()
        for name, one in some.items()
    ]
    shown = table(("arm", "episodes", *told.descriptions.values()), cells) + file_of("indicators", records, command)
    says = "Medians over all episodes, solved or not, and what the middle half of them lies between."
    return section("What else the scene tells", says, shown)
