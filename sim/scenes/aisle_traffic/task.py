"""The task of crossing a hall to a station among people and forklifts: cost, success and violations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.bodies import ROBOT, TRAFFIC_KINDS, Bodies, Kind, Shape
from sim.contacts import Contact
from sim.costmaps.navigation import NavigationField, get_navigation_field
from sim.geometry.arrays import Array, clamp, get_namespace, split_coordinates
from sim.geometry.rotations import compute_yaw, make_unit_vectors, rotate
from sim.scenes.aisle_traffic.layouts import PERSONAL_DISTANCE_M, ROBOT_GRID

ABSENT_GAP_M = 100.0  # gap to what is not there
TINY_M = 1e-9  # at zero itself a distance has no slope
NUM_NEAREST_AGENTS = 4  # others that a hint tells of
NEAR_MISS_M, STOPPED_M_S = 0.7, 0.05
INDICATORS = {
    "time_over_free": "time over that of the free route at full speed",
    "least_person_gap_m": "least distance to a person [m]",
    "stops": "stops",
    "near_misses_per_min": f"near misses, below {NEAR_MISS_M} m [1/min]",
}


@dataclass(frozen=True)
class CrossingTask:
    """Drive to the goal without touching anything, and without coming near people."""

    goal_radius_m: float = 0.25
    personal_distance_m: float = PERSONAL_DISTANCE_M
    max_contact_force_n: float = 1.0
    forklift_distance_m: float = 0.2  # to a forklift's; less is no violation, but counts like one in the cost
    # Risk begins half of this beyond both and is whole as far within: people pass at 0.55 m, which models blur by centimetres,
    # and who fears that much flees from everybody.
    penalty_ramp_m: float = 0.06
    # People who no longer mind the robot are met by every plan 0.4 to 0.8 s later: what is farther off can still be avoided.
    risk_time_constant_s: float = 1.0
    violation_cost_m: float = 20.0  # what a violation is feared to cost, in metres to go: more than it costs to wait
    clearance_m: float = 0.12  # the robot should keep this far from static boxes
    clearance_weight: float = 10.0
    contact_margin_m: float = (
        0.08  # nearer than this it is about to touch them: what a model imagines there is off by centimetres
    )
    num_goal_features = 6 + 6 * NUM_NEAREST_AGENTS
    cost_unit_m = 1.0

    def get_cost_field(self, bodies: Bodies, goal: np.ndarray) -> NavigationField:
        return get_navigation_field(ROBOT_GRID, bodies, goal)

    def compute_agent_gaps(self, bodies: Bodies) -> tuple[Array, Array]:
        """From the robot's edge to that of each body (..., N), [m]: people, and forklifts; NOBODY_M where it is none."""
        gap, there = self._compute_gaps(bodies), bodies.present > 0
        xp = get_namespace(gap)
        nobody = xp.full_like(gap, ABSENT_GAP_M)
        return tuple(xp.where((bodies.kind == kind) & there, gap, nobody) for kind in TRAFFIC_KINDS)

    def _compute_gaps(self, bodies: Bodies) -> Array:
        """(..., N) from the robot's edge to that of each body [m], whatever it is."""
        xp, half = get_namespace(bodies.pose), bodies.half_extents
        x, y, *_, z, w = split_coordinates(bodies.pose)  # all upright: half an angle's sine and cosine
        dx, dy, sin, cos = x[..., ROBOT : ROBOT + 1] - x, y[..., ROBOT : ROBOT + 1] - y, 2 * z * w, 1 - 2 * z * z
        boxes = bodies.shape != Shape.CYLINDER
        box_x, box_y = boxes * half[..., 0], boxes * half[..., 1]
        beside = clamp(abs(cos * dy - sin * dx) - box_y, TINY_M)
        away = xp.hypot(clamp(abs(cos * dx + sin * dy) - box_x, 0), beside)
        return away - (half[..., 0] - box_x) - half[..., ROBOT : ROBOT + 1, 0]

    def compute_cost(self, bodies: Bodies, action: Array, goal: Array, field: NavigationField) -> Array:
        """Metres to go (...) around boxes, and closeness to boxes."""
        return field.compute_cost_to_go(_get_robot_xy(bodies)) + self.clearance_weight * clamp(
            self.clearance_m - self._compute_clearance(bodies, field), 0
        )

    def compute_violation_penalty(self, bodies: Bodies, command: Array, field: NavigationField) -> Array:
        """Of touching boxes, and of being too near to people and forklifts (...) [m]."""
        gap, kind = self._compute_gaps(bodies), bodies.kind
        xp = get_namespace(gap)
        least = xp.where(
            kind == Kind.PERSON, xp.full_like(gap, self.personal_distance_m), xp.full_like(gap, self.forklift_distance_m)
        )
        short = (0.5 + (least - gap) / self.penalty_ramp_m) * (
            ((kind == Kind.PERSON) | (kind == Kind.FORKLIFT)) & (bodies.present > 0)
        )
        others = (clamp(short, 0, 1) ** 2 + 0.1 * clamp(short - 1, 0)).sum(-1)
        return self.violation_cost_m * (clamp(1 - self._compute_clearance(bodies, field) / self.contact_margin_m, 0, 1) + others)

    def _compute_clearance(self, bodies: Bodies, field: NavigationField) -> Array:
        """(...) between the robot and static boxes [m]."""
        (radius,) = split_coordinates(bodies.half_extents[..., ROBOT, :1])
        return field.compute_clearance(_get_robot_xy(bodies)) - radius

    def is_success(self, bodies: Bodies, goal: Array, margin_m: float = 0.0) -> Array:
        """(...) bool: the robot's centre lies within the goal radius, by at least `margin_m`."""
        (x, y), (goal_x, goal_y) = split_coordinates(bodies.pose[..., ROBOT, :2]), split_coordinates(goal[..., :2])
        return get_namespace(x).hypot(x - goal_x, y - goal_y) < self.goal_radius_m - margin_m

    def find_violations(self, bodies: Bodies, contacts: Sequence[Contact], is_inside: bool) -> dict[str, bool]:
        """What went wrong in one state: contact with anything, nearness to a person, the robot outside the hall."""
        touched = [
            hit for hit in contacts if hit.first == ROBOT and (not hit.is_static or hit.force_n > self.max_contact_force_n)
        ]
        kinds = {Kind(int(bodies.kind[hit.second])) for hit in touched if not hit.is_static}
        return {
            "robot_collision": any(hit.is_static for hit in touched),
            "person_collision": Kind.PERSON in kinds,
            "forklift_collision": Kind.FORKLIFT in kinds,
            **{kind: bool(true) for kind, true in self.predict_violations(bodies).items()},
            "robot_outside_hall": not is_inside,
        }

    def predict_violations(self, bodies: Bodies) -> dict[str, Array]:
        """Nearness to a person."""
        return {"person_too_close": (self.compute_agent_gaps(bodies)[0] < self.personal_distance_m).any(-1)}

    def compute_goal_features(self, bodies: Bodies, goal: np.ndarray) -> np.ndarray:
        """The goal, where to drive to, metres to go, room; and the nearest others: place, velocity, gap, whether a person."""
        field, robot = self.get_cost_field(bodies, goal), bodies.pose[ROBOT, :2].astype(float)
        yaw = float(compute_yaw(bodies.pose[ROBOT, 3:]))
        around = make_unit_vectors(np.linspace(-np.pi, np.pi, 16, endpoint=False))
        drive = around[int(np.argmin(field.compute_cost_to_go(robot + 0.3 * around)))]
        people, forklifts = self.compute_agent_gaps(bodies)
        gaps = np.minimum(people, forklifts)
        order = np.argsort(gaps)[:NUM_NEAREST_AGENTS]
        vectors = np.concatenate([[goal[:2] - robot, drive], bodies.pose[order, :2] - robot, bodies.twist[order, :2]])
        goal_b, drive_b, *rest = rotate(vectors, np.full(len(vectors), -yaw))
        there = (gaps[order] < ABSENT_GAP_M)[:, None]
        others = (
            np.column_stack([rest[:NUM_NEAREST_AGENTS], rest[NUM_NEAREST_AGENTS:], gaps[order], people[order] < ABSENT_GAP_M])
            * there
        )
        others[:, 4] += 5.0 * ~there[:, 0]
        return np.concatenate(
            [goal_b, drive_b, [field.compute_cost_to_go(robot), field.compute_clearance(robot)], others.ravel()]
        )

    def compute_indicators(self, bodies: Bodies, field: NavigationField, speed_m_s: float, dt_s: float) -> dict[str, float]:
        """What else people ask about an episode, from its states (T + 1, N): time against that of the free route at full speed,
        the least distance to a person [m], how often the robot stopped, and near misses (closer than NEAR_MISS_M) per minute."""
        time_s = dt_s * (len(bodies.pose) - 1)
        gap = self.compute_agent_gaps(bodies)[0].min(-1)
        speed = np.linalg.norm(bodies.twist[:, ROBOT, :2], axis=-1)
        free_s = (
            float(field.compute_cost_to_go(bodies.pose[0, ROBOT, :2]) - field.compute_cost_to_go(bodies.pose[-1, ROBOT, :2]))
            / speed_m_s
        )
        return {
            "time_over_free": time_s / max(free_s, dt_s),
            "least_person_gap_m": float(gap.min()),
            "stops": float(_count_onsets(speed < STOPPED_M_S)),
            "near_misses_per_min": 60 * _count_onsets(gap < NEAR_MISS_M) / time_s,
        }


def _get_robot_xy(bodies: Bodies) -> tuple[Array, ...]:
    return split_coordinates(bodies.pose[..., ROBOT, :2])


def _count_onsets(true: np.ndarray) -> int:
    """How often a row of truth values becomes true."""
    return int((true[1:] & ~true[:-1]).sum())
