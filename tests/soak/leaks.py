"""Soak test for leaks: thousands of resets of every scene, and a viewer with many pages.

`resets` starts episodes in one process; each tenth has a camera image. Appearance varies.
`viewer` runs `ground view`, and opens and closes its page in a headless Chromium.
Memory, threads and open files must not grow after the first part. Linux only.
"""

import argparse
import gc
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import Summary, make_parser

from experiments.viewer.drawing import browser
from sim.env import GroundEnv
from sim.scenes.scene import scenes

IMAGE_EVERY_RESETS = 10
SAMPLE_EVERY_RESETS = 50
WARM_UP_RESETS = 500
MAX_MB_PER_1000_RESETS = 2.0
WARM_UP_SHARE = 0.2  # of the viewer's time
MAX_MB_PER_HOUR = 40.0
MAX_MORE_FILES = 4  # sockets that close late
PATIENCE_MS = 120_000  # software WebGL on a shared core
CLOSE_PAUSE_S = 4.0  # from the end of the last page to a sample


@dataclass(frozen=True)
class Usage:
    """What a process holds at one moment."""

    memory_mb: float
    threads: int
    files: int


def read_usage(pid: int) -> Usage:
    """Read the resident memory, threads and open files of a process."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    memory_kb, threads = (int(re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)[1]) for name in ("VmRSS", "Threads"))  # type: ignore[index]
    return Usage(memory_kb / 1024, threads, len(os.listdir(f"/proc/{pid}/fd")))


def fit_slope(x: list[float], y: list[float]) -> float:
    """Fit the growth of y with x: the median of the slopes of all pairs (Theil-Sen).

    Args:
        x: positions, increasing.
        y: values at the positions.

    Returns:
        Growth in units of y for each unit of x; 0 with fewer than two points.
    """
    first, second = np.triu_indices(len(x), 1)
    if not len(first):
        return 0.0
    return float(np.median((np.array(y)[second] - np.array(y)[first]) / (np.array(x)[second] - np.array(x)[first])))


def reset_scene(name: str, num_resets: int, seed: int, warm_up: int = WARM_UP_RESETS) -> dict[str, float]:
    """Reset a scene many times.

    Args:
        name: scene.
        num_resets: number of resets.
        seed: seed of the first reset.
        warm_up: resets before the first sample of memory.

    Returns:
        Figures of memory and open files.
    """
    env = GroundEnv(name, "train", render_mode="rgb_array")
    interval = max(1, min(SAMPLE_EVERY_RESETS, (num_resets - warm_up) // 4))
    counts: list[float] = []
    usages: list[Usage] = []
    for number in range(num_resets + 1):
        if number >= warm_up and number % interval == 0:
            gc.collect()
            counts.append(number)
            usages.append(read_usage(os.getpid()))
        env.reset(seed=seed if number == 0 else None, options={"variation": {"appearance": "varied"}})
        env.step(env.action_space.sample())
        if number % IMAGE_EVERY_RESETS == 0:
            assert env.render() is not None
    env.close()
    return {
        "resets": num_resets,
        "first_mb": round(usages[0].memory_mb, 1),
        "last_mb": round(usages[-1].memory_mb, 1),
        "mb_per_1000_resets": round(1000 * fit_slope(counts, [usage.memory_mb for usage in usages]), 3),
        "more_files": usages[-1].files - usages[0].files,
        "more_threads": usages[-1].threads - usages[0].threads,
    }


def run_resets(arguments: argparse.Namespace) -> Summary:
    """Reset every scene, each in a process of its own, so that memory is that of one scene."""
    summary = Summary("leaks resets", arguments.seed)
    for name in arguments.scenes or list(scenes):
        script = f"import json, leaks; print(json.dumps(leaks.reset_scene({name!r}, {arguments.tries}, {arguments.seed})))"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
        summary.num_tries += arguments.tries
        if result.returncode:
            summary.add_failure(f"{name}: {result.stderr[-500:]}")
            continue
        figures = json.loads(result.stdout.splitlines()[-1])
        summary.figures[name] = figures
        print(name, figures, flush=True)
        for fault in find_reset_faults(figures):
            summary.add_failure(f"{name}: {fault}")
    return summary


def find_reset_faults(figures: dict[str, float]) -> list[str]:
    """List what grew with the resets."""
    faults = []
    if figures["mb_per_1000_resets"] > MAX_MB_PER_1000_RESETS:
        faults.append(f"memory grows by {figures['mb_per_1000_resets']} MB in 1000 resets")
    faults += [f"{figures[name]} {name.replace('_', ' ')}" for name in ("more_files", "more_threads") if figures[name] > 0]
    return faults


class ServedViewer:
    """`ground view` in a separate process."""

    def __init__(self, words: list[str]) -> None:
        command = [sys.executable, "-m", "experiments.cli", "view", *words, "--keep-serving", "--port", "8300"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        while line and "http://" not in line:
            line = self.process.stdout.readline()
        match = re.search(r"http://\S+:\d+", line)
        assert match, "the viewer did not start"
        self.url = match[0]

    def end(self) -> str:
        """Kill the viewer; return what it printed after its address."""
        self.process.kill()
        return self.process.communicate()[0]


def visit(page: Any, rng: random.Random) -> None:
    """Do what a visitor does: wait, pause, step, start another episode."""
    page.get_by_text("play / pause").wait_for()
    for _ in range(rng.randint(0, 3)):
        page.wait_for_timeout(rng.uniform(200, 4000))
        button = rng.choice(("play / pause", "step", "to the start", "Start"))
        if button == "Start":
            page.get_by_role("tab", name="Live").click()
        page.get_by_role("button", name=button, exact=True).click()


def open_and_close_pages(chromium: Any, url: str, rng: random.Random) -> int:
    """Open one to three pages at once and close them; some close in the middle of loading.

    Returns:
        Number of pages.
    """
    contexts = [chromium.new_context(viewport={"width": 500, "height": 400}) for _ in range(rng.choice((1, 1, 2, 3)))]
    for context in contexts:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url, wait_until="commit")
        if rng.random() < 0.7:
            visit(page, rng)
    for context in contexts:
        context.close()
    return len(contexts)


def run_viewer(arguments: argparse.Namespace) -> Summary:
    """Open and close pages of one viewer for a time."""
    from playwright.sync_api import Error, sync_playwright

    summary = Summary("leaks viewer", arguments.seed)
    rng = random.Random(arguments.seed)
    samples: list[tuple[float, Usage]] = []
    start_s = time.monotonic()
    viewer = ServedViewer(arguments.words)
    try:
        with sync_playwright() as tools:
            flags = [*browser.RENDER_FLAGS[1:], *browser.QUIET_FLAGS]
            while time.monotonic() - start_s < 60 * arguments.minutes and viewer.process.poll() is None:
                chromium = tools.chromium.launch(executable_path=browser.find_chromium(), args=flags)
                for _ in range(5):  # then a fresh browser, whose own memory would grow otherwise
                    try:
                        summary.num_tries += open_and_close_pages(chromium, viewer.url, rng)
                    except Error as error:
                        summary.add_failure(f"page: {str(error)[:200]}")
                    time.sleep(CLOSE_PAUSE_S)
                    samples.append((time.monotonic() - start_s, read_usage(viewer.process.pid)))
                    print(f"{samples[-1][0]:.0f} s, {summary.num_tries} pages, {samples[-1][1]}", flush=True)
                chromium.close()
        if viewer.process.poll() is not None:
            summary.add_failure(f"the viewer ended with code {viewer.process.returncode}")
    finally:
        output = viewer.end()
    if "Traceback" in output:
        summary.add_failure(f"the viewer printed a traceback: {output[-400:]}")
    describe_viewer_growth(samples, summary)
    return summary


def describe_viewer_growth(samples: list[tuple[float, Usage]], summary: Summary) -> None:
    """Add the figures of the viewer's growth after its warm-up, and what grew too much.

    Args:
        samples: seconds since the start and what the viewer held then.
        summary: receives figures and failures.
    """
    samples = samples[int(WARM_UP_SHARE * len(samples)) :]
    part = max(1, len(samples) // 3)

    def compare(get: Callable[[Usage], float]) -> tuple[float, float]:
        first, last = (np.median([get(usage) for _, usage in group]) for group in (samples[:part], samples[-part:]))
        return float(first), float(last)

    hours = [seconds / 3600 for seconds, _ in samples]
    mb_per_hour = fit_slope(hours, [usage.memory_mb for _, usage in samples])
    memory = compare(lambda usage: usage.memory_mb)
    threads = compare(lambda usage: usage.threads)
    files = compare(lambda usage: usage.files)
    summary.figures |= {
        "minutes": round(60 * hours[-1], 1),
        "mb_per_hour": round(mb_per_hour, 1),
        "memory_mb": [round(value, 1) for value in memory],
        "threads": threads,
        "files": files,
    }
    if mb_per_hour > MAX_MB_PER_HOUR:
        summary.add_failure(f"the viewer's memory grows by {mb_per_hour:.0f} MB an hour")
    if threads[1] > threads[0] + 2:
        summary.add_failure(f"the viewer's threads grow from {threads[0]:g} to {threads[1]:g}")
    if files[1] > files[0] + MAX_MORE_FILES:
        summary.add_failure(f"the viewer's open files grow from {files[0]:g} to {files[1]:g}")


def main() -> int:
    """Run the soak test from the command line."""
    examples = ("leaks.py resets --tries 5000", "leaks.py resets --scenes factory/push-fixture", "leaks.py viewer --minutes 120")
    parser = make_parser(str(__doc__), examples)
    parser.add_argument("part", choices=("resets", "viewer"))
    parser.add_argument("--tries", type=int, default=5000, help="resets of each scene (default: 5000)")
    parser.add_argument("--scenes", nargs="*", help="scenes to reset (default: all)")
    parser.add_argument("--minutes", type=float, default=120.0, help="time of the viewer (default: 120)")
    parser.add_argument("--words", nargs="*", default=[], help="further words of `ground view`")
    arguments = parser.parse_args()
    summary = run_resets(arguments) if arguments.part == "resets" else run_viewer(arguments)
    return summary.finish(arguments.json)


if __name__ == "__main__":
    sys.exit(main())
