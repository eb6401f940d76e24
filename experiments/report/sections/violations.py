"""What went wrong, by arm and kind, in solved and unsolved episodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.report.measured import file_of
from experiments.report.pieces import section, table
from experiments.report.summary import Rate, Row, number, summarise, violations_of


@dataclass(frozen=True)
class _Violations:
    """Of one arm on one split."""

    split: str
    agent: str
    clean: Rate  # success without violation
    kinds: dict[str, Rate]  # "any" among them
    highest_force_n: float

    @property
    def cells(self) -> tuple[str, ...]:
        shares = (f"{kind.count} ({number(100 * kind.value)} %)" for kind in self.kinds.values())
        return (self.agent, self.split, str(self.clean.of), str(self.clean), *shares, number(self.highest_force_n))

    @property
    def record(self) -> dict[str, Any]:
        counts = {kind: rate.count for kind, rate in self.kinds.items()}
        clean = self.clean.record("clean")
        who = {"agent": self.agent, "split": self.split, "episodes": self.clean.of}
        return {**who, **clean, **counts, "highest_force_n": self.highest_force_n}


def violations(rows: Sequence[Row], command: str) -> str:
    kinds = violations_of(rows)
    parts = {(one.split, one.agent): list[Row]() for one in summarise(rows)}
    for row in rows:
        parts[row["split"], row["agent"]].append(row)
    found = [_of(split, agent, kinds, own) for (split, agent), own in parts.items()]
    happened = (kind.replace("_", " ") for kind in kinds)
    columns = ("arm", "split", "episodes", "without violation", *happened, "any of them", "highest force [N]")
    says = (
        "Success without violation; then in how many episodes each happened: hard contact with what stands still, and what else "
        "must not be."
    )
    shown = table(columns, [one.cells for one in found])
    return section("Violations", says, shown + file_of("violations", [one.record for one in found], command))


def _of(split: str, agent: str, kinds: Sequence[str], rows: Sequence[Row]) -> _Violations:
    rates = {kind: Rate.of_rows(rows, kind) for kind in kinds}
    rates["any"] = Rate.of_rows(rows, lambda row: any(row[kind] for kind in kinds))
    return _Violations(split, agent, Rate.of_rows(rows, "clean"), rates, max(float(row["peak_force_n"]) for row in rows))
