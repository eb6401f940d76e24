"""An arm's worst episodes: which they are, what went wrong in each, and how that is shown."""

from collections.abc import Callable, Mapping, Sequence
from html import escape

from experiments.evaluation.results import make_label
from experiments.report import pieces
from experiments.report.pairs import compute_episode_cost
from experiments.report.summary import EpisodeResult, list_violation_kinds
from experiments.report.topdown import describe_colours, render_episode_panels
from sim.data.episode import Episode

MAX_FAILURES_SHOWN = 8


def select_failures(results: Sequence[EpisodeResult]) -> list[EpisodeResult]:
    """Unsolved episodes first, then those with a violation, the hardest contact first; none that was solved cleanly."""
    failures = [result for result in results if not result["clean"]]
    return sorted(
        failures,
        key=lambda result: (
            bool(result["success"]),
            -compute_episode_cost(result) if not result["success"] else -result["peak_force_n"],
        ),
    )


def describe_failure(result: EpisodeResult, results: Sequence[EpisodeResult]) -> str:
    """What went wrong, and who did better in the same episode."""
    kinds = [kind.replace("_", " ") for kind in list_violation_kinds(results) if result[kind]]
    problems = [] if result["success"] else [f"not solved in {result['steps']} steps"]
    force = f", {result['peak_force_n']:,.0f} N" if result["peak_force_n"] > 0 else ""
    problems += [f"{', '.join(kinds)}{force}"] if kinds else []
    same_episode_results = [
        candidate for candidate in results if (candidate["layout_id"], candidate["seed"]) == (result["layout_id"], result["seed"])
    ]
    better_methods = dict.fromkeys(
        candidate.method_label
        for candidate in same_episode_results
        if candidate["clean"] and candidate.method_label != result.method_label
    )
    better_text = f"clean by {', '.join(better_methods)}" if better_methods else "by no arm without violation"
    return f"{'; '.join(problems)}; solved {better_text}"


def render_failures_section(
    method: str,
    method_results: Sequence[EpisodeResult],
    results: Sequence[EpisodeResult],
    read_episode: Callable[[EpisodeResult], Episode],
    links: Mapping[int, str],
) -> str:
    """The worst episodes of one arm from above; `links` to recordings by the row's id()."""
    failures = select_failures(method_results)
    if not failures:
        return ""
    figures = []
    episodes = [read_episode(result) for result in failures[:MAX_FAILURES_SHOWN]]
    for result, episode in zip(failures, episodes, strict=False):
        name = make_label(f"{result['split']}/{result['index']}", result.get("train_seed"))
        address = links.get(id(result))
        link = f' <a href="{escape(address)}">watch in 3-D</a>' if address else ""
        text = f"<b>{escape(name)}</b> {escape(describe_failure(result, results))}.{link}"
        figures.append(f"<figure>{render_episode_panels([('', episode)])}<figcaption>{text}</figcaption></figure>")
    num_unsolved = sum(not result["success"] for result in failures)
    caption = (
        f"{method}: {num_unsolved} of {len(method_results)} episodes not solved, {len(failures) - num_unsolved} solved with a violation; "
        f"the {len(figures)} worst. {describe_colours(episode.layout for episode in episodes)}"
    )
    return pieces.render_section("Where it fails", caption, f'<div class="episodes">{"".join(figures)}</div>')
