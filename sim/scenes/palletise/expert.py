"""Behaviours of palletise: stacking by a geometric rule, with and without known masses."""

from functools import partial

import numpy as np

from sim.bodies import Bodies, Observation
from sim.policy import EpisodeStart, PolicyFactory, ScriptedPolicy
from sim.scenes.palletise import geometry
from sim.scenes.palletise.geometry import PalletField
from sim.scenes.palletise.layouts import get_details
from sim.scenes.palletise.placing import OVERHANG_M, Places, find_places, rank_places
from sim.scenes.palletise.skill import MAX_RELEASE_HEIGHT_M, encode_action, find_waiting

SAFE_SPEED_M_S = 0.5
SAFE_RELEASE_M = 0.003
DISTURBED_SHARE = 0.5  # of the actions of random behaviours
INSIDE_SHARE = 0.95  # of disturbed actions that are kept within the outline
PROPOSED_SUPPORT = 0.7  # share of a base below which places are proposed only if there are too few
PROPOSED_SPEEDS_M_S = (0.35, 0.5, 0.5, 0.7)


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

    def _disturb(self, xy: np.ndarray, place: Places, field: PalletField, noise: float) -> np.ndarray:
        """Add noise to x, y of an action; most places stay within the pallet's outline."""
        disturbed = xy + noise * self._rng.standard_normal(2)
        limit = 1 + (OVERHANG_M - place.half[0, :2]) / field.half
        return np.clip(disturbed, -limit, limit) if self._rng.random() < INSIDE_SHARE else disturbed

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
            action[1:3] = self._disturb(action[1:3], one, field, 0.1 * self._noise)
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
        if rng.random() < DISTURBED_SHARE:
            action[1:3] = self._disturb(action[1:3], one, field, 0.04)
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
    cost = rank_places(places, field, min_support=PROPOSED_SUPPORT) + 0.02 * rng.standard_normal(len(places.x))
    best = np.argsort(cost)[:count]
    chosen = places.select(best)
    number = len(best)
    speed = rng.choice(PROPOSED_SPEEDS_M_S, number)
    release = rng.choice([0.0, SAFE_RELEASE_M, 0.3 * MAX_RELEASE_HEIGHT_M], number)
    return encode_action(chosen.choice, chosen.x, chosen.y, chosen.is_turned, speed, release, field.half)


BEHAVIOURS: dict[str, PolicyFactory] = {
    "scripted": GeometricExpert,
    "scripted-noisy": partial(GeometricExpert, noise=0.3),
    "known-mass": partial(GeometricExpert, knows_mass=True),
    "random-feasible": RandomFeasible,
}
