"""Layout families: spaces drawn from a seed, and the splits that keep training and test spaces apart."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from sim.layout import Layout, Pose
from sim.utils.errors import BadLayout, GroundError, UnknownName

MAX_ATTEMPTS = 5000  # tiers accept one in a few
MAX_TASK_ATTEMPTS = 300  # of a task in a given space
SplitSpecT = TypeVar("SplitSpecT")


def get_split_spec(specs: Mapping[str, SplitSpecT], split: str) -> SplitSpecT:
    if split not in specs:
        raise UnknownName("split", split, specs)
    return specs[split]


def sample_until_valid(split: str, index: int, seed: int, attempt: Callable[[np.random.Generator, str], Layout | None]) -> Layout:
    """Layout number `index` of a split; the same on every machine. What `attempt` gives up is drawn again."""
    if index < 0:
        raise GroundError(f"layout number {index} must not be negative")
    rng = np.random.default_rng([seed, index])
    for _ in range(MAX_ATTEMPTS):
        layout = attempt(rng, f"{split}/{index}")
        if layout is not None:
            return layout
    raise RuntimeError(f"no layout found for {split}/{index}")


def complete_task(
    attempt: Callable[[], Layout | None],
    find_faults: Callable[[Layout], list[str]],
    name: str,
    no_task_fault: str,
    robot: Pose | None,
    load: Pose | None,
    goal: Pose | None,
) -> Layout:
    """The first drawn layout that has no fault once what is given stands in its place; BadLayout with the last fault, or with
    `nothing` where none was ever drawn."""
    fault = no_task_fault
    for _ in range(MAX_TASK_ATTEMPTS):
        drawn = attempt()
        if drawn is None:
            continue
        loads = (load or drawn.loads[0],) if drawn.loads else ()
        layout = replace(drawn, robot=robot or drawn.robot, loads=loads, goal=goal or drawn.goal)
        faults = find_faults(layout)
        if not faults:
            return layout
        fault = faults[0]
    raise BadLayout(name or "map", [fault])
