"""Tasks: cost, success and violations as pure functions of bodies, one definition for environment, planner and report."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from sim.bodies import Bodies
from sim.contacts import Contact
from sim.geometry.arrays import Array


class CostField(Protocol):
    """Lookup tables of one space and goal, all numpy or all torch; `origin` is the centre of cell (0, 0)."""

    origin: tuple[float, float]  # [m]
    cell_m: float
    min_cost: Array  # (X, Y) what it costs to bring the load home from each cell [m]

    def map(self, convert: Callable[[Array], Array]) -> Self: ...


class Task(Protocol):
    """What is asked for: one definition for environment, planner and report. All functions take any batch shape `...`."""

    num_goal_features: int  # how many numbers `hint` gives

    @property
    def cost_unit_m(self) -> float:
        """Metres in one unit of `cost` and `risk`: what planners hold for much or little then fits every scene."""

    @property
    def risk_time_constant_s(self) -> float:
        """So far ahead a risk counts 1/e of what it would now: plans are made anew in each step, and what is later can still be
        avoided. Who wants to be safe for the whole of a plan, whatever others do, stands still (Trautman and Krause 2010,
        "Unfreezing the robot")."""

    def get_cost_field(self, bodies: Bodies, goal: np.ndarray) -> Any:
        """The Field of this space and goal, computed once and remembered."""

    def compute_cost(self, bodies: Bodies, action: Array, goal: Array, field: Any) -> Array:
        """How far it is to go (...), zero is ideal; the environment's reward is minus this and `risk`."""

    def compute_violation_penalty(self, bodies: Bodies, command: Array, field: Any) -> Array | float:
        """What the danger of a violation in a state is feared to cost (...); planners also pay for the worst of a plan.

        command (..., 3): the speeds that the action before it asked for, in the robot's frame: forward, to the left [m/s],
        turning [rad/s].
        """

    def is_success(self, bodies: Bodies, goal: Array, margin_m: float = 0.0) -> Array:
        """(...) bool, by at least `margin_m`."""

    def find_violations(self, bodies: Bodies, contacts: Sequence[Contact], is_inside: bool) -> Mapping[str, bool]:
        """What went wrong in one state, by kind."""

    def predict_violations(self, bodies: Bodies) -> Mapping[str, Array]:
        """Which of `violations` poses alone tell (...) bool, by kind: what a plan can be known to lead to."""

    def compute_goal_features(self, bodies: Bodies, goal: np.ndarray) -> np.ndarray:
        """(hints,) what a planner knows of the goal and its field, in the robot's frame, for policies on a flat observation."""
