"""The task of aisle-traffic: cost, success, violations and indicators."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.bodies import ROBOT, TRAFFIC_KINDS, Bodies, Kind, Shape
from sim.contacts import Contact
from sim.costmaps.navigation import NavigationField, get_navigation_field
from sim.geometry.arrays import Array, clamp, get_namespace, split_coordinates
from sim.geometry.rotations import compute_yaw, make_unit_vectors, rotate
from sim.scenes.aisle_traffic.layouts import PERSONAL_DISTANCE_M, ROBOT_GRID
from sim.task import is_at_goal

ABSENT_GAP_M = 100.0  # gap to an absent body
TINY_M = 1e-9  # least distance, because a distance of zero has no gradient
NUM_NEAREST_AGENTS = 4  # agents in the goal features
NEAR_MISS_M = 0.7
STOPPED_M_S = 0.05
INDICATORS = {
    "time_over_free": "time over that of the free route at full speed",
    "least_person_gap_m": "least distance to a person [m]",
    "stops": "stops",
    "near_misses_per_min": f"near misses, below {NEAR_MISS_M} m [1/min]",
}


@dataclass(frozen=True)
class CrossingTask:
    """Drive to the goal without contact, and without coming close to people.

    Costs are in metres.

    The violation penalty of an agent begins half of `penalty_ramp_m` outside the personal distance,
    and is full half of `penalty_ramp_m` inside it. The ramp is short: people pass at 0.55 m, errors
    of models are centimetres, and a robot with a wider ramp would turn back from every person.

    The risk time constant is short, because plans meet people who ignore the robot 0.4 s to 0.8 s
    ahead, and a later violation can still be avoided.
    """

    goal_radius_m: float = 0.25
    personal_distance_m: float = PERSONAL_DISTANCE_M
    max_contact_force_n: float = 1.0
    forklift_distance_m: float = 0.2  # a smaller distance has the penalty of a violation but is none
    penalty_ramp_m: float = 0.06
    risk_time_constant_s: float = 1.0
    # penalty of a violation [m]: more than the cost of waiting
    violation_cost_m: float = 20.0
    # distance from static boxes below which the robot pays clearance_weight per metre
    clearance_m: float = 0.12
    clearance_weight: float = 10.0
    # distance from static boxes below which the penalty begins: models are wrong by centimetres
    contact_margin_m: float = 0.08
    num_goal_features = 6 + 6 * NUM_NEAREST_AGENTS
    cost_unit_m = 1.0

    def get_cost_field(self, bodies: Bodies, goal: np.ndarray) -> NavigationField:
        """Get the navigation field of a layout and goal from the cache.

        Args:
            bodies: (N,) as in an observation.
            goal: (3,) x, y [m] and yaw [rad].
        """
        return get_navigation_field(ROBOT_GRID, bodies, goal)

    def compute_agent_gaps(self, bodies: Bodies) -> tuple[Array, Array]:
        """Compute the gaps between the robot's edge and those of agents.

        Returns:
            Gaps (..., N) to people and to forklifts [m]; ABSENT_GAP_M for every other body.
        """
        gap, is_present = self._compute_gaps(bodies), bodies.present > 0
        xp = get_namespace(gap)
        absent = xp.full_like(gap, ABSENT_GAP_M)
        return tuple(xp.where((bodies.kind == kind) & is_present, gap, absent) for kind in TRAFFIC_KINDS)

    def _compute_gaps(self, bodies: Bodies) -> Array:
        """Compute the gap (..., N) between the robot's edge and that of each body [m]."""
        xp, half = get_namespace(bodies.pose), bodies.half_extents
        # upright bodies: z and w are sine and cosine of half the yaw
        x, y, *_, z, w = split_coordinates(bodies.pose)
        dx, dy, sin, cos = x[..., ROBOT : ROBOT + 1] - x, y[..., ROBOT : ROBOT + 1] - y, 2 * z * w, 1 - 2 * z * z
        is_box = bodies.shape != Shape.CYLINDER
        box_x, box_y = is_box * half[..., 0], is_box * half[..., 1]
        gap_y = clamp(abs(cos * dy - sin * dx) - box_y, TINY_M)
        gap = xp.hypot(clamp(abs(cos * dx + sin * dy) - box_x, 0), gap_y)
        return gap - (half[..., 0] - box_x) - half[..., ROBOT : ROBOT + 1, 0]

    def compute_cost(self, bodies: Bodies, action: Array, goal: Array, field: NavigationField) -> Array:
        """Compute the cost-to-go around boxes, and the cost of closeness to boxes.

        Args:
            bodies: (..., N) bodies.
            action: (..., 2), without effect on the cost.
            goal: (3,) x, y, yaw of the goal [m, rad].
            field: navigation field of the layout and goal.

        Returns:
            (...) cost [m]; zero is ideal.
        """
        missing_clearance = clamp(self.clearance_m - self._compute_clearance(bodies, field), 0)
        return field.compute_cost_to_go(_get_robot_xy(bodies)) + self.clearance_weight * missing_clearance

    def compute_violation_penalty(self, bodies: Bodies, command: Array, field: NavigationField) -> Array:
        """Compute the penalty of touching boxes, and of being too close to people and forklifts.

        Args:
            bodies: (..., N) bodies.
            command: (..., 3), without effect on the penalty.
            field: navigation field of the layout and goal.

        Returns:
            (...) penalty [m].
        """
        gap, kind = self._compute_gaps(bodies), bodies.kind
        xp = get_namespace(gap)
        is_person, is_forklift = kind == Kind.PERSON, kind == Kind.FORKLIFT
        person_distance = xp.full_like(gap, self.personal_distance_m)
        min_gap = xp.where(is_person, person_distance, xp.full_like(gap, self.forklift_distance_m))
        share = (0.5 + (min_gap - gap) / self.penalty_ramp_m) * ((is_person | is_forklift) & (bodies.present > 0))
        agents = (clamp(share, 0, 1) ** 2 + 0.1 * clamp(share - 1, 0)).sum(-1)
        return self.violation_cost_m * (clamp(1 - self._compute_clearance(bodies, field) / self.contact_margin_m, 0, 1) + agents)

    def _compute_clearance(self, bodies: Bodies, field: NavigationField) -> Array:
        """Compute the gap (...) between the robot's edge and static boxes [m]."""
        (radius,) = split_coordinates(bodies.half_extents[..., ROBOT, :1])
        return field.compute_clearance(_get_robot_xy(bodies)) - radius

    def is_success(self, bodies: Bodies, goal: Array, margin_m: float = 0.0) -> Array:
        """Find out whether the robot's centre is within the goal radius.

        Args:
            bodies: (..., N) bodies.
            goal: (3,) x, y, yaw of the goal [m, rad].
            margin_m: margin within the goal radius.

        Returns:
            (...) bool.
        """
        return is_at_goal(bodies, ROBOT, goal, self.goal_radius_m - margin_m)

    def find_violations(self, bodies: Bodies, contacts: Sequence[Contact], is_inside: bool) -> dict[str, bool]:
        """Find the violations of one state: contact, closeness to a person, leaving the hall."""
        of_robot = [contact for contact in contacts if contact.first == ROBOT]
        kinds = {Kind(int(bodies.kind[contact.second])) for contact in of_robot if not contact.is_static}
        return {
            "robot_collision": any(contact.is_static and contact.force_n > self.max_contact_force_n for contact in of_robot),
            "person_collision": Kind.PERSON in kinds,
            "forklift_collision": Kind.FORKLIFT in kinds,
            **{kind: bool(value) for kind, value in self.predict_violations(bodies).items()},
            "robot_outside_hall": not is_inside,
        }

    def predict_violations(self, bodies: Bodies) -> dict[str, Array]:
        """Predict the violations that poses alone show: closeness to a person.

        Returns:
            (...) bool by kind.
        """
        return {"person_too_close": (self.compute_agent_gaps(bodies)[0] < self.personal_distance_m).any(-1)}

    def compute_goal_features(self, bodies: Bodies, goal: np.ndarray) -> np.ndarray:
        """Compute the goal features of one state, in the robot's frame.

        Args:
            bodies: (N,) as in an observation.
            goal: (3,) x, y [m] and yaw [rad].

        Returns:
            (num_goal_features,) vector to the goal [m], best drive direction, cost-to-go and
            clearance [m]; then for each of the nearest agents position [m], velocity [m/s], gap
            [m], and 1 for a person, else 0.
        """
        field, robot = self.get_cost_field(bodies, goal), bodies.pose[ROBOT, :2].astype(float)
        yaw = float(compute_yaw(bodies.pose[ROBOT, 3:]))
        directions = make_unit_vectors(np.linspace(-np.pi, np.pi, 16, endpoint=False))
        drive = directions[int(np.argmin(field.compute_cost_to_go(robot + 0.3 * directions)))]
        people, forklifts = self.compute_agent_gaps(bodies)
        gaps = np.minimum(people, forklifts)
        order = np.argsort(gaps)[:NUM_NEAREST_AGENTS]
        vectors = np.concatenate([[goal[:2] - robot, drive], bodies.pose[order, :2] - robot, bodies.twist[order, :2]])
        goal_b, drive_b, *rest = rotate(vectors, np.full(len(vectors), -yaw))
        position_b, velocity_b = rest[:NUM_NEAREST_AGENTS], rest[NUM_NEAREST_AGENTS:]
        is_present = gaps[order] < ABSENT_GAP_M
        agents = np.column_stack([position_b, velocity_b, gaps[order], people[order] < ABSENT_GAP_M]) * is_present[:, None]
        agents[:, 4] += 5.0 * ~is_present
        lookups = [field.compute_cost_to_go(robot), field.compute_clearance(robot)]
        return np.concatenate([goal_b, drive_b, lookups, agents.ravel()])

    def compute_indicators(self, bodies: Bodies, field: NavigationField, speed_m_s: float, dt_s: float) -> dict[str, float]:
        """Compute the INDICATORS of an episode.

        Args:
            bodies: (T + 1, N) states.
            field: navigation field of the layout and goal.
            speed_m_s: largest speed of the robot, at which the free route is driven.
            dt_s: time between states.

        Returns:
            Value of each indicator.
        """
        time_s = dt_s * (len(bodies.pose) - 1)
        gap = self.compute_agent_gaps(bodies)[0].min(-1)
        speed = np.linalg.norm(bodies.twist[:, ROBOT, :2], axis=-1)
        start_m, end_m = (field.compute_cost_to_go(bodies.pose[step, ROBOT, :2]) for step in (0, -1))
        free_s = float(start_m - end_m) / speed_m_s
        return {
            "time_over_free": time_s / max(free_s, dt_s),
            "least_person_gap_m": float(gap.min()),
            "stops": float(_count_onsets(speed < STOPPED_M_S)),
            "near_misses_per_min": 60 * _count_onsets(gap < NEAR_MISS_M) / time_s,
        }


def _get_robot_xy(bodies: Bodies) -> tuple[Array, ...]:
    return split_coordinates(bodies.pose[..., ROBOT, :2])


def _count_onsets(condition: np.ndarray) -> int:
    """Count the steps at which a condition (T,) becomes true."""
    return int((condition[1:] & ~condition[:-1]).sum())
