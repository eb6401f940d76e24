"""Sampling of layouts from a seed, for the scenes' families of layouts and splits."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from sim.layout import Layout, Pose, find_value_faults
from sim.utils.errors import BadLayout, GroundError, UnknownName

MAX_ATTEMPTS = 5000  # distribution shifts reject most layouts
MAX_TASK_ATTEMPTS = 300  # of a task in a given map
SplitSpecT = TypeVar("SplitSpecT")


def get_split_spec(specs: Mapping[str, SplitSpecT], split: str) -> SplitSpecT:
    """Get the specification of a split.

    Raises:
        UnknownName: the scene has no such split.
    """
    if split not in specs:
        raise UnknownName("split", split, specs)
    return specs[split]


def sample_until_valid(split: str, index: int, seed: int, attempt: Callable[[np.random.Generator, str], Layout | None]) -> Layout:
    """Sample layout `index` of a split; it is the same on every machine.

    Args:
        attempt: makes a layout from a generator and a name; None: the attempt failed.

    Raises:
        GroundError: negative index.
        RuntimeError: all attempts failed.
    """
    if index < 0:
        raise GroundError(f"layout number {index} must not be negative")
    rng = np.random.default_rng([seed, index])
    for _ in range(MAX_ATTEMPTS):
        layout = attempt(rng, f"{split}/{index}")
        if layout is not None:
            return layout
    raise RuntimeError(f"no layout found for {split}/{index}")


def complete_task(
    empty: Layout,
    attempt: Callable[[], Layout | None],
    find_faults: Callable[[Layout], list[str]],
    no_task_fault: str,
    robot: Pose | None,
    load: Pose | None,
    goal: Pose | None,
) -> Layout:
    """Sample layouts until one has no faults, with the given poses of robot, load and goal.

    Args:
        empty: the hall and its boxes.
        attempt: samples a layout; None: the attempt failed.
        no_task_fault: fault to report if every attempt failed.
        robot: fixed pose; None: as sampled. Also for load and goal.

    Raises:
        BadLayout: the hall, a box or a given pose has a fault that no sample could mend, or all
            attempts failed; it has the last fault.
    """
    faults = find_value_faults(empty) + [
        f"{name} at ({pose.x:g}, {pose.y:g}) is outside the hall"
        for name, pose in (("start", robot), ("load", load), ("goal", goal))
        if pose and not empty.hall.contains(pose.x, pose.y)
    ]
    if faults:
        raise BadLayout(empty.name or "map", faults)
    fault = no_task_fault
    for _ in range(MAX_TASK_ATTEMPTS):
        sample = attempt()
        if sample is None:
            continue
        loads = (load or sample.loads[0],) if sample.loads else ()
        layout = replace(sample, robot=robot or sample.robot, loads=loads, goal=goal or sample.goal)
        if not (faults := find_faults(layout)):
            return layout
        fault = faults[0]
    raise BadLayout(empty.name or "map", [fault])
