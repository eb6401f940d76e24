"""Behaviours of palletise: stacking by a geometric rule, with and without known masses.

Candidate places are the corner points of Martello et al. 2000, "The three-dimensional bin packing
problem": a carton touches others or the pallet's edge on two sides. The rule takes the deepest
place, then the one nearest to a corner, where enough of the carton's base is supported.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from sim.bodies import Bodies, Observation
from sim.layout import Layout
from sim.policy import EpisodeStart, PolicyFactory, ScriptedPolicy
from sim.scenes.palletise import geometry
from sim.scenes.palletise.geometry import PalletField, Stack
from sim.scenes.palletise.layouts import get_details
from sim.scenes.palletise.skill import MAX_RELEASE_HEIGHT_M, encode_action, find_waiting

GAP_M = 0.003  # between neighbours
MIN_SUPPORT = 0.75  # share of a carton's base
MIN_REACH = 0.4  # of the support beyond the middle of the base
SAFE_SPEED_M_S = 0.5
SAFE_RELEASE_M = 0.003
CORNER_WEIGHT = 0.1  # of the distance from the pallet's corner, against height
SIZE_WEIGHT = 2.0  # of the base area [m per m²], for large cartons first
HEAVY_KG = 4.0
HEAVY_WEIGHT = 0.02  # of the height of heavy cartons [1/kg]


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
    length, width = field.half.tolist()
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
    height = geometry.find_support_heights(stack, field, x, y, half[:, 0], half[:, 1], ignored)
    support, reach = geometry.measure_support(stack, field, x, y, half[:, 0], half[:, 1], height, ignored)
    places = Places(row, choice_, x, y, turned, half, height, support, reach)
    return places.select(places.top <= field.limits[1] + 1e-6)


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
        cost = cost + HEAVY_WEIGHT * (mass_kg - HEAVY_KG) * (places.height - field.limits[0]) * 5 - 0.01 * mass_kg
    return np.asarray(cost + 10.0 * np.clip(min_support - places.support, 0, 1) + np.clip(MIN_REACH - places.reach, 0, 2))


def can_stack(layout: Layout) -> bool:
    """Return True if the geometric rule fits the whole order under the height limit."""
    details = get_details(layout)
    count, num_slots = len(details.cartons), len(details.slots)
    half_extents = np.array([carton.half_extents for carton in details.cartons])
    limits = np.array([geometry.PALLET_HEIGHT_M, geometry.PALLET_HEIGHT_M + details.max_stack_m])
    field = PalletField(np.zeros(3), np.array([details.pallet_length_m, details.pallet_width_m]) / 2, limits)
    absent, half_x, half_y, zeros = np.full(count, 9.0), half_extents[:, 0].copy(), half_extents[:, 1].copy(), np.zeros(count)
    is_placed = np.zeros(count, bool)
    stack = Stack(absent, absent.copy(), half_x, half_y, zeros, zeros.copy(), np.ones(count, bool), is_placed)
    waiting, following = list(range(min(num_slots, count))), num_slots
    while waiting:
        places = _find_places(stack, field, half_extents, np.array(waiting), np.zeros(count))
        if not len(places.x):
            return False
        best = int(rank_places(places, field).argmin())
        row = int(places.row[best])
        stack.x[row], stack.y[row] = places.x[best], places.y[best]
        stack.half_x[row], stack.half_y[row] = places.half[best, :2]
        stack.bottom[row], stack.top[row] = places.height[best], places.top[best]
        stack.is_placed[row] = True
        waiting.remove(row)
        if following < count:
            waiting.append(following)
            following += 1
    return True


class _Stacker(ScriptedPolicy):
    """Base of behaviours that choose among candidate places."""

    def start_episode(self, start: EpisodeStart) -> None:
        super().start_episode(start)
        self._masses = np.array([0.0, *(carton.mass_kg for carton in get_details(start.layout).cartons)])

    def _compute_action(self, observation: Observation) -> np.ndarray:
        bodies = Bodies.from_observation(observation)
        field = geometry.make_field(bodies)
        places = find_places(bodies, field)
        if not len(places.x):
            return self._compute_fallback(bodies)
        return self._choose(places, field)

    def _choose(self, places: Places, field: PalletField) -> np.ndarray:
        raise NotImplementedError

    def _compute_fallback(self, bodies: Bodies) -> np.ndarray:
        """Compute an action for a carton that fits nowhere: the middle of the pallet."""
        _, choice = find_waiting(bodies)
        return encode_action(choice.max(), 0.0, 0.0, np.array(False), SAFE_SPEED_M_S, SAFE_RELEASE_M, np.ones(2))


class GeometricExpert(_Stacker):
    """Deepest, bottom, left, with enough support; with known masses also heavy ones below."""

    def __init__(self, knows_mass: bool = False, noise: float = 0.0, speed_m_s: float = SAFE_SPEED_M_S) -> None:
        """Create the expert.

        Args:
            knows_mass: use the true masses, which observations do not have.
            noise: standard deviation of noise on costs and actions, for data collection.
            speed_m_s: of the swing.
        """
        self._knows_mass, self._noise, self._speed_m_s = knows_mass, noise, speed_m_s

    def _choose(self, places: Places, field: PalletField) -> np.ndarray:
        mass = self._masses[places.row] if self._knows_mass else None
        cost = rank_places(places, field, mass)
        best = int((cost + 0.3 * self._noise * self._rng.standard_normal(len(cost))).argmin())
        speed = self._speed_m_s
        if mass is not None:
            speed = float(np.interp(mass[best], [3.0, 10.0], [2 * speed, speed]))
        one = places.select(np.array([best]))
        action = encode_action(one.choice, one.x, one.y, one.is_turned, speed, SAFE_RELEASE_M, field.half)[0]
        if self._noise:
            action[1:3] += 0.1 * self._noise * self._rng.standard_normal(2)
            action[4:] = self._rng.uniform(-1, 1, 2)
        return action


class RandomFeasible(_Stacker):
    """Random corner points of random cartons at random speeds: covers what a planner tries."""

    def _choose(self, places: Places, field: PalletField) -> np.ndarray:
        rng = self._rng
        weight = np.exp(
            -rng.uniform(2, 30)
            * (rank_places(places, field, min_support=0.4) - rank_places(places, field, min_support=0.4).min())
        )
        best = int(rng.choice(len(weight), p=weight / weight.sum()))
        one = places.select(np.array([best]))
        action = encode_action(one.choice, one.x, one.y, one.is_turned, 0.5, 0.0, field.half)[0]
        action[1:3] += rng.normal(0, 0.04, 2) * (rng.random() < 0.5)
        action[4:] = rng.uniform(-1, 1, 2)
        return action


def propose_actions(observation: Observation, count: int, rng: np.random.Generator) -> np.ndarray:
    """Propose placements: good corner points of all waiting cartons, at several speeds.

    Args:
        observation: of GroundEnv.
        count: largest number of actions.
        rng: source of randomness.

    Returns:
        (K, 6) actions in [-1, 1]; one action, without effect, where no carton waits.
    """
    bodies = Bodies.from_observation(observation)
    field = geometry.make_field(bodies)
    places = find_places(bodies, field)
    if not len(places.x):
        _, choice = find_waiting(bodies)
        action = encode_action(choice.max(), 0.0, 0.0, np.array(False), SAFE_SPEED_M_S, SAFE_RELEASE_M, np.ones(2))
        return action[None]
    cost = rank_places(places, field, min_support=0.5) + 0.02 * rng.standard_normal(len(places.x))
    best = np.argsort(cost)[:count]
    chosen = places.select(best)
    number = len(best)
    speed = rng.choice([0.3, 0.5, 0.7, 0.9], number)
    release = rng.choice([0.0, SAFE_RELEASE_M, 0.3 * MAX_RELEASE_HEIGHT_M], number)
    return encode_action(chosen.choice, chosen.x, chosen.y, chosen.is_turned, speed, release, field.half)


BEHAVIOURS: dict[str, PolicyFactory] = {
    "scripted": GeometricExpert,
    "scripted-noisy": partial(GeometricExpert, noise=0.3),
    "known-mass": partial(GeometricExpert, knows_mass=True),
    "random-feasible": RandomFeasible,
}
