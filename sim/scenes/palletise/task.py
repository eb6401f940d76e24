"""The task of palletise: cost, success and violations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.bodies import Bodies
from sim.contacts import Contact
from sim.geometry.arrays import Array, clamp, get_namespace
from sim.geometry.rotations import compute_tilt_cosine, rotate
from sim.scenes.palletise import geometry
from sim.scenes.palletise.geometry import PalletField, Stack

MAX_PLACED_COST = 1.5
MISSING_COST = 3.0  # more than the worst place
SAFE_REACH = 0.4  # of the support beyond the middle: a centre of mass is off by up to 20 % of the size
MIN_UPRIGHT_COSINE = float(np.cos(np.radians(10)))


@dataclass(frozen=True)
class PalletiseTask:
    """Stack an order low, dense and supported. Costs are shares of the whole order.

    A carton that is not on the pallet costs most, by its share of the volume. A placed one costs its height,
    the part of its base that nothing supports, its tilt, and what reaches beyond the limits. Space
    that later cartons cannot use costs its share of the space below the height limit.
    """

    cost_unit_m: float = 1.0
    risk_time_constant_s: float = 10.0  # the next placement cannot mend a violation
    height_weight: float = 0.8  # of the top, as a share of the height limit
    support_weight: float = 0.6
    centre_weight: float = 0.6  # of the distance of the middle from the end of its support
    corner_weight: float = 0.3  # of the distance from a corner of the pallet
    waste_weight: float = 2.0  # of space that no carton can fill, and of steps of the surface
    limit_weight: float = 10.0  # of the distance beyond a limit [1/m]
    violation_weight: float = 1.0
    num_goal_features = 5

    def get_cost_field(self, bodies: Bodies, goal: np.ndarray) -> PalletField:
        """Get the pallet and the height limit.

        Args:
            bodies: (N,) as in an observation.
            goal: unused, the pallet is a body.
        """
        return geometry.make_field(bodies)

    def compute_cost(self, bodies: Bodies, action: Array, goal: Array, field: PalletField) -> Array:
        """Compute the cost of a stack.

        Args:
            bodies: (..., N) bodies; static ones do not matter.
            action: unused.
            goal: unused.
            field: of `get_cost_field`.

        Returns:
            (...) cost; 0 if the order has no height, and 3 if nothing is placed.
        """
        stack = geometry.measure_stack(bodies, field)
        half = bodies.half_extents
        volume = half[..., 0] * half[..., 1] * half[..., 2] * stack.is_carton
        share = volume / clamp(volume.sum(-1), 1e-9)[..., None]
        height = clamp((stack.top - field.limits[..., 0]) / (field.limits[..., 1] - field.limits[..., 0]), 0, 2)
        support, reach = self._measure_support(stack, field)
        depth = abs(field.half[..., 0] + stack.x - stack.half_x) + abs(field.half[..., 1] + stack.y - stack.half_y)
        placed = self.height_weight * height + self.support_weight * (1 - support)
        placed = placed + self.centre_weight * clamp(SAFE_REACH - reach, 0)
        placed = placed + self.corner_weight * depth / (field.half[..., 0] + field.half[..., 1])
        xp = get_namespace(share)
        cost = xp.where(stack.is_placed, xp.minimum(placed, 0 * placed + MAX_PLACED_COST), 0 * placed + MISSING_COST)
        waste, walls = geometry.measure_surface(stack, field)
        return (share * cost).sum(-1) + self.waste_weight * (waste + walls)

    def _measure_support(self, stack: Stack, field: PalletField) -> tuple[Array, Array]:
        xp = get_namespace(stack.x)
        count = stack.x.shape[-1]
        ignored = (xp.arange(count)[:, None] == xp.arange(count)) & (stack.is_placed[..., None, :] | True)
        return geometry.measure_support(stack, field, stack.x, stack.y, stack.half_x, stack.half_y, stack.bottom, ignored)

    def compute_violation_penalty(self, bodies: Bodies, command: Array, field: PalletField) -> Array:
        """Compute the penalty of cartons beyond the outline, above the limit or tipped.

        Args:
            bodies: (..., N) bodies.
            command: unused.
            field: of `get_cost_field`.

        Returns:
            (...) penalty.
        """
        stack = geometry.measure_stack(bodies, field)
        xp = get_namespace(stack.x)
        beyond = clamp(geometry.compute_overhang(stack, field) - geometry.OUTLINE_MARGIN_M / 2, 0)
        beyond = beyond + clamp(stack.top - field.limits[..., 1], 0)
        tipped = compute_tilt_cosine(bodies.pose[..., 3:]) < MIN_UPRIGHT_COSINE
        each = clamp(self.limit_weight * beyond, 0, 1) + xp.where(tipped, 1 + 0 * beyond, 0 * beyond)
        return self.violation_weight * (each * stack.is_placed).sum(-1)

    def is_success(self, bodies: Bodies, goal: Array, margin_m: float = 0.0) -> Array:
        """Test whether all present cartons are above the pallet, and upright.

        The world's final test tells if the order is complete and stood the shake test.

        Args:
            bodies: (..., N) bodies.
            goal: (3,) x, y, yaw of the pallet.
            margin_m: unused.

        Returns:
            (...) bool.
        """
        is_carton = (bodies.present > 0) & (bodies.kind == 1)
        upright = compute_tilt_cosine(bodies.pose[..., 3:]) > MIN_UPRIGHT_COSINE
        offset = bodies.pose[..., :2] - goal[:2]
        offset = rotate(offset, 0 * offset[..., 0] - goal[2])
        inside = (abs(offset[..., 0]) < geometry.PALLET_LENGTH_M / 2) & (abs(offset[..., 1]) < geometry.PALLET_WIDTH_M / 2)
        high = bodies.pose[..., 2] > geometry.PALLET_HEIGHT_M
        return ((upright & inside & high) | ~is_carton).all(-1) & is_carton.any(-1)

    def find_violations(self, bodies: Bodies, contacts: Sequence[Contact], is_inside: bool) -> dict[str, bool]:
        """Find the violations that poses show; the world reports those of skills."""
        return {kind: bool(value) for kind, value in self.predict_violations(bodies).items()}

    def predict_violations(self, bodies: Bodies) -> dict[str, Array]:
        """Return an empty dictionary: the world reports all violations.

        Returns:
            (...) bool by kind.
        """
        return {}

    def compute_goal_features(self, bodies: Bodies, goal: np.ndarray) -> np.ndarray:
        """Compute features of the stack: cost, highest top, volume on the pallet, cartons left.

        Args:
            bodies: (N,) as in an observation.
            goal: (3,) x, y, yaw of the pallet.

        Returns:
            (5,) features.
        """
        field = geometry.make_field(bodies)
        stack = geometry.measure_stack(bodies, field)
        volume = 8 * bodies.half_extents.prod(-1)
        top = (stack.top * stack.is_placed).max() - field.limits[0]
        cost = float(self.compute_cost(bodies, np.zeros(1), goal, field))
        waiting = float((stack.is_carton & ~stack.is_placed).sum())
        return np.array([cost, top, 100 * (volume * stack.is_placed).sum(), stack.is_placed.sum() / 10, waiting])
