"""What keeps rows from being compared, and what a reader must know where they are: one line each, with what to do."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from experiments.evaluation.results import find_unreadable_results
from experiments.report.pairs import rank_methods
from experiments.report.regret import get_search_budget
from experiments.report.summary import EpisodeKey, EpisodeResult, format_number, get_episode_key, get_protocol, is_known
from sim.scenes.scene import split_scene_id
from sim.utils.errors import GroundError
from sim.variation import Variation

MAX_ENV_STEPS_DIFFERENCE_SHARE = 0.03  # relative difference of env steps that is none: learners stop at full batches


def check_comparable(results_by_run: Mapping[str, Sequence[EpisodeResult]]) -> None:
    """GroundError where runs, by name, cannot be compared: of other scenes, spaces or physics, or without a shared episode."""
    results = [result for run_results in results_by_run.values() for result in run_results]
    scenes: dict[str, list[str]] = defaultdict(list)
    for result in results:
        scene, _ = split_scene_id(result["scene"])
        scenes[scene] = list(dict.fromkeys([*scenes[scene], result["run"]]))
    if len(scenes) > 1:
        message = "; ".join(f"{', '.join(run_names)} in {scene}" for scene, run_names in sorted(scenes.items()))
        raise GroundError(f"runs of different scenes cannot be compared: {message}: name runs of one scene")
    protocols = sorted({get_protocol(result) for result in results})
    if len(protocols) > 1:
        raise GroundError(f"episodes of different protocols cannot be compared: {', '.join(protocols)}; --protocol chooses one")
    _check_same_layouts(results)
    _check_same_physics(results)
    _check_shared_episodes(results_by_run)


def _check_same_layouts(results: Sequence[EpisodeResult]) -> None:
    first_results: dict[tuple[str, int], EpisodeResult] = {}
    for result in results:
        first_result = first_results.setdefault((result["split"], result["index"]), result)
        if first_result["layout_id"] != result["layout_id"]:
            episode_name = f"{result['split']}/{result['index']}"
            raise GroundError(
                f"{episode_name} is another space for {result['agent']} in {result['run']} than for {first_result['agent']} in {first_result['run']}: "
                "the split was drawn differently in between: evaluate the older one again in a new run"
            )


def _check_same_physics(results: Sequence[EpisodeResult]) -> None:
    names = [field.name for field in fields(Variation)]
    first_results: dict[tuple[str, int], EpisodeResult] = {}
    for result in results:
        first_result = first_results.setdefault((result["layout_id"], result["seed"]), result)
        differing_names = [
            name
            for name in names
            if is_known(result, name) and is_known(first_result, name) and result[name] != first_result[name]
        ]
        if differing_names:
            raise GroundError(
                f"{result['split']}/{result['index']} had another {', '.join(differing_names)} for {result['agent']} in {result['run']} than for "
                f"{first_result['agent']} in {first_result['run']}: runs of different protocols cannot be compared: evaluate both with the "
                "same variations"
            )


def _check_shared_episodes(results_by_run: Mapping[str, Sequence[EpisodeResult]]) -> None:
    episodes_by_run = {run: set(map(get_episode_key, results)) for run, results in results_by_run.items() if results}
    for run, episodes in episodes_by_run.items():
        other_episodes = set[EpisodeKey]().union(
            *(episodes for other_run, episodes in episodes_by_run.items() if other_run != run)
        )
        if len(episodes_by_run) > 1 and not episodes & other_episodes:
            shared_layouts = {layout for layout, _ in episodes} & {layout for layout, _ in other_episodes}
            reason = "the same spaces, but with other seeds" if shared_layouts else "no space in common"
            raise GroundError(
                f"{run} shares no episode with the other runs ({reason}): evaluate all of them on the same splits "
                "(ground evaluate RUN --split SPLIT), of experiments with one seed"
            )


def make_notes(results: Sequence[EpisodeResult]) -> list[str]:
    """What was not equal between arms: search budgets, experience, episodes."""
    notes = (
        _format_search_note(results),
        _format_experience_note(results),
        *_format_episode_notes(results),
        _format_unpaired_note(results),
    )
    return [note for note in notes if note]


def _format_search_note(results: Sequence[EpisodeResult]) -> str:
    budgets = {
        method: " × ".join(map(str, budget[1:]))
        for method in rank_methods(results)
        if (budget := get_search_budget(results, method)) is not None
    }
    budgets_text = _format_differing_values(budgets)
    return f"Search budgets differ (samples × iterations × horizon): {budgets_text}." if budgets_text else ""


def _format_experience_note(results: Sequence[EpisodeResult]) -> str:
    steps = {
        method: max(float(result["env_steps"]) for result in results if result["agent"] == method)
        for method in rank_methods(results)
    }
    learners = {method: value for method, value in steps.items() if value > 0}
    if not learners or max(learners.values()) <= (1 + MAX_ENV_STEPS_DIFFERENCE_SHARE) * min(learners.values()):
        return ""
    return f"Experience differs (env steps): {_format_differing_values({method: format_number(value) for method, value in learners.items()})}."


def _format_differing_values(values: Mapping[str, str]) -> str:
    """Which arms have which value; nothing where all have the same."""
    methods_by_value: dict[str, list[str]] = defaultdict(list)
    for method, value in values.items():
        methods_by_value[value].append(method)
    return (
        "; ".join(f"{value}: {', '.join(methods)}" for value, methods in methods_by_value.items())
        if len(methods_by_value) > 1
        else ""
    )


def _format_unpaired_note(results: Sequence[EpisodeResult]) -> str:
    """Arms that cannot be compared with the best one."""
    episodes_by_method = {
        method: {get_episode_key(result) for result in results if result["agent"] == method} for method in rank_methods(results)
    }
    best_method = next(iter(episodes_by_method), "")
    unpaired_methods = [
        method for method, episodes in episodes_by_method.items() if not episodes & episodes_by_method[best_method]
    ]
    return (
        f"No episode is shared with {best_method} by {', '.join(unpaired_methods)}: they cannot be compared."
        if unpaired_methods
        else ""
    )


def _format_episode_notes(results: Sequence[EpisodeResult]) -> list[str]:
    played_episodes: dict[tuple[str, str], set[EpisodeKey]] = defaultdict(set)
    for result in results:
        played_episodes[str(result["split"]), str(result["agent"])].add(get_episode_key(result))
    splits, methods = dict.fromkeys(split for split, _ in played_episodes), rank_methods(results)
    counts = {split: {method: len(played_episodes[split, method]) for method in methods} for split in splits}
    splits_by_shortfall: dict[str, list[str]] = defaultdict(list)
    for split, method_counts in counts.items():
        max_count = max(method_counts.values())
        if shortfalls := [f"{method} {count}" for method, count in method_counts.items() if count < max_count]:
            splits_by_shortfall[f"{', '.join(shortfalls)} of {max_count}"].append(split)
    return [
        f"Not every arm played all episodes of {', '.join(splits)}: {shortfall}. Differences are over shared episodes."
        for shortfall, splits in splits_by_shortfall.items()
    ]


def describe_unreadable_results(run: Path) -> str:
    """What of a run's rows cannot be read, and what to do; nothing: ""."""
    files = find_unreadable_results(run / "results")
    if not files:
        return ""
    return (
        f"{len(files)} rows of {run} are damaged or of another version and left out (the first: {files[0].parent.name}/"
        f"{files[0].stem}): the command that evaluated them plays them again"
    )
