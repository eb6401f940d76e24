"""What else a scene tells of its episodes: medians and the middle half, by arm."""

from collections.abc import Sequence

from experiments.report.measured import render_download_link
from experiments.report.pairs import rank_methods
from experiments.report.pieces import render_section, render_table
from experiments.report.summary import EpisodeResult, compute_indicators
from sim.scenes.scene import scenes


def render_indicators_section(results: Sequence[EpisodeResult], command: str) -> str:
    """All splits together; nothing where the scene tells nothing, or the rows are older."""
    indicator_set = scenes[results[0]["scene"]].indicators
    results_by_method = {method: [result for result in results if result["agent"] == method] for method in rank_methods(results)}
    indicators_by_method = {method: compute_indicators(method_results) for method, method_results in results_by_method.items()}
    if indicator_set is None or not any(indicators_by_method.values()):
        return ""
    cells = [
        (method, str(len(results_by_method[method])), *(str(indicators.get(name, "–")) for name in indicator_set.descriptions))
        for method, indicators in indicators_by_method.items()
    ]
    records = [
        {"agent": method, "indicator": name, "median": quartiles.median, "q25": quartiles.low, "q75": quartiles.high}
        for method, indicators in indicators_by_method.items()
        for name, quartiles in indicators.items()
    ]
    content = render_table(("arm", "episodes", *indicator_set.descriptions.values()), cells) + render_download_link(
        "indicators", records, command
    )
    caption = "Medians over all episodes, solved or not, and what the middle half of them lies between."
    return render_section("What else the scene tells", caption, content)
