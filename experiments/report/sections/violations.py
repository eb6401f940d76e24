"""Violations by method and kind, and the worst episodes of a method."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from experiments.evaluation.results import EpisodeResult
from experiments.report.figures.topdown import describe_colours, render_episode_panels
from experiments.report.loading import StoredResult
from experiments.report.measures.formats import format_kind, format_number, join_names
from experiments.report.measures.paired_scores import compute_episode_cost
from experiments.report.measures.summary import get_episode_key, get_episode_label, group_results, list_violation_kinds, summarise
from experiments.report.sections.section import render_download_link, render_section, render_table
from sim.scenes.scene import scenes

MAX_FAILURES_SHOWN = 8


def render_violations_section(results: Sequence[EpisodeResult], command: str) -> str:
    """Render in how many episodes each kind of violation happened, by method and split."""
    kinds = list_violation_kinds(results)
    groups = group_results(results, "split", "method")
    cells = []
    records = []
    for summary in summarise(results):
        group = groups[summary.split, summary.method]
        rate = summary.safe_success
        counts = {kind: summary.violations.get(kind, 0) for kind in kinds}
        counts["any"] = sum(any(result.violations.values()) for result in group)
        force_n = max(result.peak_force_n for result in group)
        shares = [f"{count} ({format_number(100 * count / len(group))} %)" for count in counts.values()]
        cells.append((summary.method, summary.split_label, str(len(group)), str(rate), *shares, format_number(force_n)))
        identity = {"method": summary.method, "split": summary.split, "episodes": len(group)}
        records.append({**identity, **rate.make_record("safe_success"), **counts, "highest_force_n": force_n})
    columns = ("method", "split", "episodes", "safe success", *map(format_kind, kinds), "any of them", "highest force [N]")
    content = render_table(columns, cells) + render_download_link("violations", records, command)
    return render_section("violations", content)


def select_failures(stored: Sequence[StoredResult]) -> list[StoredResult]:
    """Select the episodes without safe success: unsolved ones by cost, then the others by force."""
    unsolved = [item for item in stored if not item.result.success]
    unsafe = [item for item in stored if item.result.success and not item.result.safe_success]
    unsolved.sort(key=lambda item: -compute_episode_cost(item.result))
    return unsolved + sorted(unsafe, key=lambda item: -item.result.peak_force_n)


def describe_failure(result: EpisodeResult, results: Sequence[EpisodeResult]) -> str:
    """Describe what went wrong, and which methods solved the same episode safely."""
    kinds = [format_kind(kind) for kind, happened in result.violations.items() if happened]
    problems = [] if result.success else [f"unsolved after {result.steps} steps"]
    force = f", {result.peak_force_n:,.0f} N" if result.peak_force_n > 0 else ""
    problems += [f"{', '.join(kinds)}{force}"] if kinds else []
    key = get_episode_key(result)
    safe = dict.fromkeys(other.method_label for other in results if other.safe_success and get_episode_key(other) == key)
    better_methods = [method for method in safe if method != result.method_label]
    better = f"safe success of {join_names(better_methods)}" if better_methods else "no safe success of any method"
    return f"{'; '.join(problems)}; {better}"


def render_failures_section(
    method: str, stored: Sequence[StoredResult], results: Sequence[EpisodeResult], links: Mapping[Path, str]
) -> str:
    """Render the worst episodes of a method from above; nothing where all are safe successes.

    Args:
        stored: the method's results.
        results: of all methods.
        links: addresses of recordings by the episode's file.
    """
    failures = select_failures(stored)
    if not failures:
        return ""
    scene = scenes[failures[0].result.scene]
    figures = []
    layouts = []
    for item in failures[:MAX_FAILURES_SHOWN]:
        episode = item.read_episode()
        layouts.append(episode.layout)
        seed = f"@{item.result.train_seed}" if item.result.train_seed else ""
        link = f' <a href="{escape(links[item.file])}">watch in 3-D</a>' if item.file in links else ""
        name = escape(get_episode_label(item.result) + seed)
        text = f"<b>{name}</b> {escape(describe_failure(item.result, results))}.{link}"
        figures.append(f"<figure>{render_episode_panels(scene, [('', episode)])}<figcaption>{text}</figcaption></figure>")
    num_unsolved = sum(not item.result.success for item in failures)
    counts = {"unsolved": num_unsolved, "total": len(stored), "violating": len(failures) - num_unsolved}
    facts = {"method": method, "shown": len(figures), "colours": describe_colours(scene, layouts)}
    return render_section("failures", f'<div class="episodes">{"".join(figures)}</div>', **facts, **counts)
