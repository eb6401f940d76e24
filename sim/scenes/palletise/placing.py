"""Candidate places for cartons, and a geometric rule that ranks them.

Candidate places are the corner points of Martello et al. 2000, "The three-dimensional bin packing
problem": a carton touches others or the pallet's edge on two sides. The rule takes the deepest
place, then the one nearest to a corner, where enough of the carton's base is supported.
"""

from dataclasses import dataclass

import numpy as np

from sim.bodies import Bodies
from sim.scenes.palletise import geometry
from sim.scenes.palletise.geometry import PalletField, Stack
from sim.scenes.palletise.skill import find_waiting

GAP_M = 0.004  # between neighbours
MIN_GAP_M = 0.002  # a carton in a narrower gap gets stuck
OVERHANG_M = 0.004  # beyond the pallet's edge, so that cartons of a third or half of its length fit with gaps
MIN_SUPPORT = 0.75  # share of a carton's base
MIN_REACH = 0.4  # of the support beyond the middle of the base
CORNER_WEIGHT = 0.1  # of the distance from the pallet's corner, against height
SIZE_WEIGHT = 2.0  # of the base area [m per m²], for large cartons first
HEAVY_KG = 4.0
HEAVY_WEIGHT = 0.03  # of the height of heavy cartons [1/kg]
HEAVY_FIRST = 0.003  # [m/kg]
NUM_TRIES = 6  # of the rule, to find the height limit of an order
RANDOM_CHANGE_M = 0.03  # of the rule's costs in these tries


@dataclass(frozen=True)
class Places:
    """K candidate places in the pallet's frame."""

    row: np.ndarray  # (K,) of the carton among all bodies
    choice: np.ndarray  # (K,) first number of the action
    x: np.ndarray  # (K,) [m]
    y: np.ndarray
    is_turned: np.ndarray  # (K,) bool
    half: np.ndarray  # (K, 3) half sizes as it lies there
    height: np.ndarray  # (K,) of its bottom above the floor [m]
    support: np.ndarray  # (K,) supported share of its base
    reach: np.ndarray  # (K,) of the support beyond the middle of its base, as in `measure_support`

    def select(self, rows: np.ndarray) -> "Places":
        """Select some places."""
        return Places(**{name: values[rows] for name, values in vars(self).items()})

    @property
    def top(self) -> np.ndarray:
        """(K,) heights of the carton's top [m]."""
        return self.height + 2 * self.half[:, 2]


def find_places(bodies: Bodies, field: PalletField) -> Places:
    """Find the corner points for each waiting carton, within the pallet's outline.

    Args:
        bodies: (N,) as in an observation.
        field: the pallet.
    """
    stack = geometry.measure_stack(bodies, field)
    is_waiting, choice = find_waiting(bodies)
    return _find_places(stack, field, bodies.half_extents.astype(float), np.flatnonzero(is_waiting), choice)


def _find_places(stack: Stack, field: PalletField, half_extents: np.ndarray, rows: np.ndarray, choice: np.ndarray) -> Places:
    placed = np.flatnonzero(stack.is_placed)
    length, width = (field.half + OVERHANG_M).tolist()
    edges_x = np.concatenate([[-length], (stack.x + stack.half_x)[placed] + GAP_M, (stack.x - stack.half_x)[placed]])
    edges_y = np.concatenate([[-width], (stack.y + stack.half_y)[placed] + GAP_M, (stack.y - stack.half_y)[placed]])
    parts: list[tuple[np.ndarray, ...]] = []
    for row in rows:
        for is_turned in (False, True):
            half = half_extents[row][[1, 0, 2]] if is_turned else half_extents[row]
            x = np.concatenate([edges_x + half[0], edges_x - half[0] - GAP_M, [length - half[0]]])
            y = np.concatenate([edges_y + half[1], edges_y - half[1] - GAP_M, [width - half[1]]])
            x = np.unique(x[abs(x) <= length - half[0] + 1e-6].round(4))
            y = np.unique(y[abs(y) <= width - half[1] + 1e-6].round(4))
            grid = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
            same = np.full(len(grid), row), np.full(len(grid), choice[row])
            parts.append((*same, grid[:, 0], grid[:, 1], np.full(len(grid), is_turned), np.tile(half, (len(grid), 1))))
    if not parts:
        empty = np.zeros(0)
        return Places(empty.astype(int), empty, empty, empty, empty.astype(bool), np.zeros((0, 3)), empty, empty, empty)
    row, choice_, x, y, turned, half = (np.concatenate(values) for values in zip(*parts, strict=True))
    ignored = np.arange(len(stack.x)) == row[:, None]
    height, needed = (
        geometry.find_support_heights(stack, field, x, y, half[:, 0], half[:, 1], ignored, margin)
        for margin in (geometry.OVERLAP_MARGIN_M, -MIN_GAP_M)
    )
    support, reach = geometry.measure_support(stack, field, x, y, half[:, 0], half[:, 1], height, ignored)
    places = Places(row, choice_, x, y, turned, half, height, support, reach)
    return places.select((places.top <= field.limits[1] + 1e-6) & (needed - height < geometry.ON_TOP_M))


def rank_places(
    places: Places, field: PalletField, mass_kg: np.ndarray | None = None, min_support: float = MIN_SUPPORT
) -> np.ndarray:
    """Compute the cost of places for the geometric rule: low, deep in a corner, large cartons first.

    Args:
        places: K places.
        field: the pallet.
        mass_kg: (K,) known masses: heavy cartons go below.
        min_support: supported share of the base below which a place is used only if there is none
            better.

    Returns:
        (K,) costs [m].
    """
    depth = (places.x - places.half[:, 0] + field.half[0]) + (places.y - places.half[:, 1] + field.half[1])
    area = 4 * places.half[:, 0] * places.half[:, 1]
    cost = places.top + CORNER_WEIGHT * depth - SIZE_WEIGHT * area
    if mass_kg is not None:
        cost = cost + HEAVY_WEIGHT * (mass_kg - HEAVY_KG) * (places.height - field.limits[0]) - HEAVY_FIRST * mass_kg
    return np.asarray(cost + 10.0 * np.clip(min_support - places.support, 0, 1) + np.clip(MIN_REACH - places.reach, 0, 2))


def find_lowest_stack(half_extents: np.ndarray, num_slots: int, pallet: tuple[float, float], max_stack_m: float) -> float | None:
    """Find the lowest height in which the geometric rule, or a random change of it, stacks an order.

    Each carton must be well supported. The rule alone seldom finds the lowest stack.

    Args:
        half_extents: (N, 3) of the cartons, in the order of their arrival [m].
        num_slots: number of infeed places.
        pallet: length and width [m].
        max_stack_m: highest top of a carton above the pallet.

    Returns:
        Height above the pallet [m]; None: the order does not fit.
    """
    limits = np.array([geometry.PALLET_HEIGHT_M, geometry.PALLET_HEIGHT_M + max_stack_m])
    field = PalletField(np.zeros(3), np.array(pallet) / 2, limits)
    heights = [_stack_order(half_extents, num_slots, field, number) for number in range(NUM_TRIES)]
    return min((height for height in heights if height is not None), default=None)


def _stack_order(half_extents: np.ndarray, num_slots: int, field: PalletField, seed: int) -> float | None:
    """Stack an order by the rule with random changes (none for seed 0), and return its height."""
    rng = np.random.default_rng(seed)
    count = len(half_extents)
    half_x, half_y, zeros = half_extents[:, 0].copy(), half_extents[:, 1].copy(), np.zeros(count)
    is_carton, is_placed = np.ones(count, bool), np.zeros(count, bool)
    stack = Stack(zeros, zeros.copy(), half_x, half_y, zeros.copy(), zeros.copy(), is_carton, is_placed)
    waiting, following = list(range(min(num_slots, count))), num_slots
    while waiting:
        places = _find_places(stack, field, half_extents, np.array(waiting), zeros)
        is_good = (places.support >= MIN_SUPPORT) & (places.reach >= MIN_REACH)
        if not is_good.any():
            return None
        places = places.select(is_good)
        cost = rank_places(places, field) + (RANDOM_CHANGE_M if seed else 0.0) * rng.standard_normal(len(places.x))
        best = int(cost.argmin())
        row = int(places.row[best])
        stack.x[row], stack.y[row] = places.x[best], places.y[best]
        stack.half_x[row], stack.half_y[row] = places.half[best, :2]
        stack.bottom[row], stack.top[row] = places.height[best], places.top[best]
        stack.is_placed[row] = True
        waiting.remove(row)
        if following < count:
            waiting.append(following)
            following += 1
    return float(stack.top.max() - field.limits[0])
