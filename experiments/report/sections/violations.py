"""What went wrong, by arm and kind, in solved and unsolved episodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.report.measured import render_download_link
from experiments.report.pieces import render_section, render_table
from experiments.report.summary import EpisodeResult, Rate, format_number, list_violation_kinds, summarise


@dataclass(frozen=True)
class _MethodViolations:
    """Of one arm on one split."""

    split: str
    method: str
    safe_success: Rate  # success without violation
    kind_rates: dict[str, Rate]  # "any" among them
    highest_force_n: float

    @property
    def cells(self) -> tuple[str, ...]:
        shares = (f"{kind.count} ({format_number(100 * kind.value)} %)" for kind in self.kind_rates.values())
        return (
            self.method,
            self.split,
            str(self.safe_success.total),
            str(self.safe_success),
            *shares,
            format_number(self.highest_force_n),
        )

    @property
    def record(self) -> dict[str, Any]:
        counts = {kind: rate.count for kind, rate in self.kind_rates.items()}
        safe_success = self.safe_success.make_record("clean")
        identity = {"agent": self.method, "split": self.split, "episodes": self.safe_success.total}
        return {**identity, **safe_success, **counts, "highest_force_n": self.highest_force_n}


def render_violations_section(results: Sequence[EpisodeResult], command: str) -> str:
    kinds = list_violation_kinds(results)
    groups = {(summary.split, summary.method): list[EpisodeResult]() for summary in summarise(results)}
    for result in results:
        groups[result["split"], result["agent"]].append(result)
    method_violations = [_count_violations(split, method, kinds, group) for (split, method), group in groups.items()]
    kind_names = (kind.replace("_", " ") for kind in kinds)
    columns = ("arm", "split", "episodes", "without violation", *kind_names, "any of them", "highest force [N]")
    caption = (
        "Success without violation; then in how many episodes each happened: hard contact with what stands still, and what else "
        "must not be."
    )
    content = render_table(columns, [violations.cells for violations in method_violations])
    return render_section(
        "Violations",
        caption,
        content + render_download_link("violations", [violations.record for violations in method_violations], command),
    )


def _count_violations(split: str, method: str, kinds: Sequence[str], results: Sequence[EpisodeResult]) -> _MethodViolations:
    rates = {kind: Rate.compute(results, kind) for kind in kinds}
    rates["any"] = Rate.compute(results, lambda result: any(result[kind] for kind in kinds))
    return _MethodViolations(
        split, method, Rate.compute(results, "clean"), rates, max(float(result["peak_force_n"]) for result in results)
    )
