"""Checks that results can be compared, and notes for the reader: one line each."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from experiments.evaluation.results import EpisodeResult, find_unreadable_results
from experiments.report.measures import summary
from experiments.report.measures.formats import format_number
from experiments.report.measures.planners import get_search_budget
from experiments.report.measures.summary import EpisodeKey, Results, get_episode_key, group_results, rank_methods
from sim.scenes.scene import split_scene_id
from sim.utils.errors import GroundError

MAX_ENV_STEPS_DIFFERENCE_SHARE = 0.03  # relative difference that counts as equal: learners stop at full batches


def check_comparable(results_by_run: Mapping[str, Results]) -> None:
    """Check that runs can be compared.

    Args:
        results_by_run: by the name of the run.

    Raises:
        GroundError: the runs are of different scenes, protocols, layouts or physics, or share no
            episode.
    """
    results = [result for run_results in results_by_run.values() for result in run_results]
    scenes: dict[str, dict[str, None]] = defaultdict(dict)
    for result in results:
        scenes[split_scene_id(result.scene)[0]][result.run] = None
    if len(scenes) > 1:
        message = "; ".join(f"{', '.join(runs)} in {scene}" for scene, runs in sorted(scenes.items()))
        raise GroundError(f"runs of different scenes cannot be compared: {message}: name runs of one scene")
    protocols = sorted({result.protocol for result in results})
    if len(protocols) > 1:
        raise GroundError(f"episodes of different protocols cannot be compared: {', '.join(protocols)}; --protocol selects one")
    _check_same_layouts(results)
    _check_same_physics(results)
    _check_shared_episodes(results_by_run)


def _check_same_layouts(results: Results) -> None:
    for first, *others in group_results(results, "split", "index").values():
        for result in others:
            if result.layout_id != first.layout_id:
                difference = _describe_difference(result, first, "is another layout")
                advice = "the split was generated differently: evaluate the older one in a new run"
                raise GroundError(f"{difference}: {advice}")


def _check_same_physics(results: Results) -> None:
    for first, *others in group_results(results, "layout_id", "seed").values():
        first_values = asdict(first.variation)
        for result in others:
            names = [name for name, value in asdict(result.variation).items() if value != first_values[name]]
            if names:
                difference = _describe_difference(result, first, f"had another {', '.join(names)}")
                advice = "runs of different protocols cannot be compared: evaluate both with the same variations"
                raise GroundError(f"{difference}: {advice}")


def _describe_difference(result: EpisodeResult, first: EpisodeResult, problem: str) -> str:
    label = summary.get_episode_label(result)
    return f"{label} {problem} for {result.method} in {result.run} than for {first.method} in {first.run}"


def _check_shared_episodes(results_by_run: Mapping[str, Results]) -> None:
    episodes_by_run = {run: set(map(get_episode_key, results)) for run, results in results_by_run.items() if results}
    for run, episodes in episodes_by_run.items():
        others = set[EpisodeKey]().union(*(episodes_by_run[other] for other in episodes_by_run if other != run))
        if len(episodes_by_run) > 1 and not episodes & others:
            has_shared_layouts = {layout for layout, _ in episodes} & {layout for layout, _ in others}
            reason = "the same layouts, but with other seeds" if has_shared_layouts else "no layout in common"
            advice = "evaluate all of them on the same splits (ground evaluate RUN --split SPLIT), of experiments with one seed"
            raise GroundError(f"{run} shares no episode with the other runs ({reason}): {advice}")


def make_notes(results: Results) -> list[str]:
    """List what was not equal between methods: search budgets, experience, episodes."""
    notes = (
        _format_search_note(results),
        _format_experience_note(results),
        *_format_episode_notes(summary.select_benchmark_results(results)),
        _format_unpaired_note(results),
    )
    return [note for note in notes if note]


def _format_search_note(results: Results) -> str:
    budgets = {method: get_search_budget(results, method) for method in rank_methods(results)}
    texts = {method: " × ".join(map(str, budget[1:])) for method, budget in budgets.items() if budget is not None}
    differences = _format_differing_values(texts)
    return f"Search budgets differ (samples × iterations × horizon): {differences}." if differences else ""


def _format_experience_note(results: Results) -> str:
    groups = group_results(results, "method")
    env_steps = {method: max(result.env_steps for result in groups[method]) for method in rank_methods(results)}
    learners = {method: steps for method, steps in env_steps.items() if steps > 0}
    if not learners or max(learners.values()) <= (1 + MAX_ENV_STEPS_DIFFERENCE_SHARE) * min(learners.values()):
        return ""
    texts = {method: format_number(steps) for method, steps in learners.items()}
    return f"Experience differs (env steps): {_format_differing_values(texts)}."


def _format_differing_values(values: Mapping[str, str]) -> str:
    """Format which methods have which value; nothing where all have the same."""
    methods_by_value: dict[str, list[str]] = defaultdict(list)
    for method, value in values.items():
        methods_by_value[value].append(method)
    texts = [f"{value}: {', '.join(methods)}" for value, methods in methods_by_value.items()]
    return "; ".join(texts) if len(texts) > 1 else ""


def _format_unpaired_note(results: Results) -> str:
    groups = group_results(results, "method")
    episodes = {method: set(map(get_episode_key, groups[method])) for method in rank_methods(results)}
    best, *others = episodes or [""]
    unpaired = [method for method in others if not episodes[best] & episodes[method]]
    return f"No episode is shared with {best} by {', '.join(unpaired)}: they cannot be compared." if unpaired else ""


def _format_episode_notes(results: Results) -> list[str]:
    methods = rank_methods(results)
    splits_by_shortfall: dict[str, list[str]] = defaultdict(list)
    for split, group in group_results(results, "split").items():
        counts = {method: len({get_episode_key(result) for result in group if result.method == method}) for method in methods}
        most = max(counts.values())
        if shortfalls := [f"{method} {count}" for method, count in counts.items() if count < most]:
            splits_by_shortfall[f"{', '.join(shortfalls)} of {most}"].append(split)
    return [
        f"Not every method ran all episodes of {', '.join(splits)}: {shortfall}. Differences are over shared episodes."
        for shortfall, splits in splits_by_shortfall.items()
    ]


def describe_unreadable_results(run: Path) -> str:
    """Describe the results of a run that cannot be read, and what to do; nothing where all can."""
    files = find_unreadable_results(run / "results")
    if not files:
        return ""
    problem = f"{len(files)} results of {run} are damaged or of another version and left out"
    first = f"{files[0].parent.name}/{files[0].stem}"
    return f"{problem} (the first: {first}): the command that evaluated them runs them again"
