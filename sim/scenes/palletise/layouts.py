"""Layouts of palletise: a pallet, infeed places beside the arm, and an order of cartons.

Lengths are half of the usual ones, and masses are the usual ones. Orders are sampled per split.
Distribution shifts are harder on purpose.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from sim.bodies import Kind
from sim.layout import Hall, Layout, LayoutDetails, Pose, StaticBody, find_value_faults, layout_details
from sim.layout_sampling import get_split_spec, sample_until_valid
from sim.scenes.palletise.geometry import PALLET_HEIGHT_M, PALLET_LENGTH_M, PALLET_WIDTH_M
from sim.scenes.palletise.placing import find_lowest_stack
from sim.variation import Variation, Variations

CELL = Hall(-0.55, -0.85, 1.5, 1.7)  # the arm's base is the origin
PALLET = Pose(0.56, 0.0, np.pi / 2)
GAUGE_M = (0.86, 0.42)  # place of the post that shows the height limit
SLOT_HEIGHT_M = 0.2  # of the infeed tables
SLOT_HALF_EXTENTS_M = (0.17, 0.13)
SLOT_RANGE_M = (0.4, 0.68)  # distances of an infeed place from the arm's base
SLOTS = (Pose(0.12, 0.58), Pose(0.12, -0.58), Pose(-0.28, 0.54), Pose(-0.28, -0.54))
MIN_SLOTS = 3  # of sampled layouts
MIN_SIDE_M = 0.115  # the gripper's pad needs such a face
MAX_SIDE_M = 0.32  # longer cartons do not fit on an infeed table
MIN_CARTON_HEIGHT_M = 0.04
MAX_CARTON_HEIGHT_M = 0.25
MAX_MASS_KG = 14.0  # payload of the arm
MAX_CARTONS = 16
MAX_STACK_M = 0.45  # above the pallet, within the arm's reach
MIN_FRICTION = 0.02
SIZES = (
    (0.20, 0.15, 0.10), (0.20, 0.13, 0.12), (0.15, 0.13, 0.10), (0.24, 0.16, 0.12), (0.26, 0.18, 0.09), (0.18, 0.18, 0.14),
    (0.16, 0.12, 0.08), (0.14, 0.14, 0.14), (0.22, 0.14, 0.16), (0.20, 0.20, 0.08), (0.13, 0.12, 0.11), (0.25, 0.13, 0.10),
)  # fmt: skip
BASE = Variation(load_mass_kg=4.0, load_friction=0.5)
UNKNOWN_SIZES = (
    (0.28, 0.15, 0.11), (0.17, 0.16, 0.06), (0.23, 0.19, 0.13), (0.14, 0.12, 0.18), (0.19, 0.12, 0.15), (0.21, 0.17, 0.07),
    (0.30, 0.12, 0.08), (0.12, 0.12, 0.12),
)  # fmt: skip


@dataclass(frozen=True)
class Carton:
    """A carton of an order; sizes [m] along its own axes."""

    length_m: float
    width_m: float
    height_m: float
    mass_kg: float = 4.0
    friction: float = 0.5  # against a carton of equal friction
    mass_centre_m: tuple[float, float, float] = (0.0, 0.0, 0.0)  # from the middle
    stiffness_n_m: float | None = None  # of each contact point of a soft carton; None: rigid

    @property
    def half_extents(self) -> tuple[float, float, float]:
        """Half sizes [m]."""
        return self.length_m / 2, self.width_m / 2, self.height_m / 2

    @property
    def volume_m3(self) -> float:
        """Volume [m³]."""
        return self.length_m * self.width_m * self.height_m

    def find_faults(self) -> list[str]:
        """Find values that are out of bounds, one line each."""
        bounds = (
            ("length_m", MIN_SIDE_M, MAX_SIDE_M, "m (what the gripper can hold)"),
            ("width_m", MIN_SIDE_M, MAX_SIDE_M, "m (what the gripper can hold)"),
            ("height_m", MIN_CARTON_HEIGHT_M, MAX_CARTON_HEIGHT_M, "m"),
            ("mass_kg", 0.1, MAX_MASS_KG, "kg (what the arm can lift)"),
            ("friction", MIN_FRICTION, 2.0, ""),
            ("stiffness_n_m", 1e3, 1e6, "N/m"),
        )
        faults = []
        for name, low, high, unit in bounds:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                faults.append(f"{name} is {value:g}, {low:g} to {high:g} {unit} is needed".replace("  ", " "))
        if any(abs(offset) > 0.8 * half for offset, half in zip(self.mass_centre_m, self.half_extents, strict=True)):
            faults.append("mass_centre_m lies outside the carton, or at its faces")
        return faults


@layout_details.add("palletise")
@dataclass(frozen=True)
class PalletiseDetails(LayoutDetails):
    """The order, in which cartons arrive at the infeed places, and the limit of the stack."""

    cartons: tuple[Carton, ...]
    slots: tuple[Pose, ...] = SLOTS
    max_stack_m: float = 0.34  # highest top of a carton above the pallet
    pallet_length_m: float = PALLET_LENGTH_M
    pallet_width_m: float = PALLET_WIDTH_M

    def list_static_bodies(self, layout: Layout) -> list[StaticBody]:
        """List the pallet, a post that shows the height limit, and the infeed tables in order."""
        half = (self.pallet_length_m / 2, self.pallet_width_m / 2, PALLET_HEIGHT_M / 2)
        goal = layout.goal
        pallet = StaticBody(Kind.PALLET, half, (goal.x, goal.y, half[2]), goal.yaw)
        half_z = SLOT_HEIGHT_M / 2
        tables = [
            StaticBody(Kind.STATION, (*SLOT_HALF_EXTENTS_M, half_z), (slot.x, slot.y, half_z), slot.yaw) for slot in self.slots
        ]
        height = (PALLET_HEIGHT_M + self.max_stack_m) / 2
        gauge = StaticBody(Kind.WALL, (0.01, 0.01, height), (*GAUGE_M, height))
        return [pallet, gauge, *tables]

    def list_load_outlines(self) -> list[tuple[float, float]]:
        """List the half extents of each carton from above, in its frame [m]."""
        return [carton.half_extents[:2] for carton in self.cartons]

    def find_value_faults(self) -> list[str]:
        """Find values of cartons and slots that are out of bounds, one line each."""
        faults = []
        if not 1 <= len(self.cartons) <= MAX_CARTONS:
            faults.append(f"details.cartons has {len(self.cartons)} cartons, 1 to {MAX_CARTONS} are possible")
        if not 1 <= len(self.slots) <= len(SLOTS):
            faults.append(f"details.slots has {len(self.slots)} places, 1 to {len(SLOTS)} are possible")
        for number, carton in enumerate(self.cartons):
            faults += [f"details.cartons[{number}].{fault}" for fault in carton.find_faults()]
        if not 0.05 <= self.max_stack_m <= MAX_STACK_M:
            faults.append(f"details.max_stack_m is {self.max_stack_m:g}, 0.05 to {MAX_STACK_M:g} m is needed: the arm's reach")
        if not (0.2 <= self.pallet_length_m <= 0.62 and 0.2 <= self.pallet_width_m <= 0.42):
            size = f"{self.pallet_length_m:g} m × {self.pallet_width_m:g} m"
            faults.append(f"details: the pallet is {size}, 0.2 to 0.62 m × 0.2 to 0.42 m is needed: the arm's reach")
        return faults


def get_details(layout: Layout) -> PalletiseDetails:
    """Get the details of a layout of this scene."""
    assert isinstance(layout.details, PalletiseDetails)
    return layout.details


def find_faults(layout: Layout) -> list[str]:
    """Find the faults of a layout, one line each."""
    if not isinstance(layout.details, PalletiseDetails):
        return ["details of palletise are missing"]
    faults = find_value_faults(layout)
    if faults:
        return faults
    details, goal = layout.details, layout.goal
    if len(layout.loads) != len(details.cartons):
        faults.append(f"{len(layout.loads)} loads, one for each of the {len(details.cartons)} cartons is needed")
    if layout.boxes or layout.traffic or layout.more_goals:
        faults.append("boxes, traffic and more_goals are not part of this scene: leave them empty")
    if layout.surface != "cell":
        faults.append(f"surface is '{layout.surface}', 'cell' is needed")
    if np.hypot(goal.x - PALLET.x, goal.y - PALLET.y) > 0.05 or abs(np.sin(goal.yaw - PALLET.yaw)) > 1e-3:
        faults.append(
            f"goal, the pallet, is out of the arm's reach: place it at ({PALLET.x:g}, {PALLET.y:g}), yaw {PALLET.yaw:.2f}"
        )
    low, high = SLOT_RANGE_M
    for number, slot in enumerate(details.slots):
        if not low <= np.hypot(slot.x, slot.y) <= high:
            faults.append(
                f"details.slots[{number}] is {np.hypot(slot.x, slot.y):.2f} m from the arm, {low:g} to {high:g} m is needed"
            )
        gap = np.hypot(goal.x - slot.x, goal.y - slot.y)
        if gap < 0.5:
            faults.append(f"details.slots[{number}] is {gap:.2f} m from the pallet's middle, 0.5 m is needed")
        for other in range(number):
            gap = np.hypot(details.slots[other].x - slot.x, details.slots[other].y - slot.y)
            if gap < 0.34:
                faults.append(f"details.slots[{other}] and [{number}] overlap ({gap:.2f} m apart, 0.34 m is needed)")
    tallest = max(carton.height_m for carton in details.cartons)
    volume = sum(carton.volume_m3 for carton in details.cartons)
    space = details.pallet_length_m * details.pallet_width_m * details.max_stack_m
    for number, carton in enumerate(details.cartons):
        sides, pallet = sorted((carton.length_m, carton.width_m)), sorted((details.pallet_length_m, details.pallet_width_m))
        if sides[0] > pallet[0] or sides[1] > pallet[1]:
            faults.append(f"details.cartons[{number}] is larger than the pallet")
    if tallest > details.max_stack_m:
        faults.append(f"a carton is {tallest:g} m high, and the stack may have {details.max_stack_m:g} m")
    if volume > space:
        faults.append(f"the order cannot fit: {1e3 * volume:.1f} litres of cartons in {1e3 * space:.1f} litres above the pallet")
    return faults


@dataclass(frozen=True)
class SplitSpec:
    """What the orders of a split are sampled from."""

    seed: int
    num_cartons: tuple[int, int] = (8, 14)
    mass_kg: tuple[float, float] = (0.5, 10.0)
    friction: tuple[float, float] = (0.2, 0.8)
    off_centre: tuple[float, float] = (0.0, 0.2)  # of the centre of mass, as a share of the size
    sizes: tuple[tuple[float, float, float], ...] = SIZES
    soft_share: float = 0.0
    slack_m: tuple[float, float] = (0.005, 0.015)  # of the height limit
    variations: Variations = Variations(BASE)


SPLIT_SPECS = {
    "train": SplitSpec(71, num_cartons=(3, 14)),
    "val": SplitSpec(72, num_cartons=(3, 14)),
    "test": SplitSpec(73),
    "shift-heavier": SplitSpec(74, mass_kg=(6.0, 13.0), off_centre=(0.0, 0.1)),
    "shift-slippery": SplitSpec(75, friction=(0.18, 0.26)),
    "shift-off-centre": SplitSpec(76, off_centre=(0.18, 0.28)),
    "shift-unknown-sizes": SplitSpec(77, sizes=UNKNOWN_SIZES),
    "shift-soft": SplitSpec(78, soft_share=0.5),
}


def get_spec(split: str) -> SplitSpec:
    """Get the specification of a split.

    Raises:
        UnknownName: no such split.
    """
    return get_split_spec(SPLIT_SPECS, split)


@lru_cache(maxsize=4096)
def sample_layout(split: str, index: int) -> Layout:
    """Sample the layout of a number in a split; it is the same on every machine."""
    spec = get_spec(split)
    return sample_until_valid(split, index, spec.seed, lambda rng, name: _attempt(spec, rng, name))


def _attempt(spec: SplitSpec, rng: np.random.Generator, name: str) -> Layout | None:
    cartons = tuple(_sample_carton(spec, rng) for _ in range(int(rng.integers(spec.num_cartons[0], spec.num_cartons[1] + 1))))
    num_slots = int(rng.integers(MIN_SLOTS, len(SLOTS) + 1))
    slots = tuple(
        Pose(slot.x + float(rng.uniform(-0.015, 0.015)), slot.y + float(rng.uniform(-0.02, 0.02)), float(rng.uniform(-0.1, 0.1)))
        for slot in SLOTS
    )
    half_extents = np.array([carton.half_extents for carton in cartons])
    height = find_lowest_stack(half_extents, num_slots, (PALLET_LENGTH_M, PALLET_WIDTH_M), MAX_STACK_M - spec.slack_m[1])
    if height is None:
        return None
    goal = replace(PALLET, x=PALLET.x + float(rng.uniform(-0.01, 0.01)), y=float(rng.uniform(-0.02, 0.02)))
    details = PalletiseDetails(cartons, slots[:num_slots], round(height + float(rng.uniform(*spec.slack_m)), 3))
    return make_layout(details, goal, name)


def make_layout(details: PalletiseDetails, goal: Pose = PALLET, name: str = "") -> Layout:
    """Make a layout of an order."""
    count = len(details.slots)
    loads = tuple(details.slots[number % count] for number in range(len(details.cartons)))
    return Layout(CELL, Pose(0.45, 0.0), loads, goal, name=name, surface="cell", details=details)


def shuffle_order(layout: Layout, rng: np.random.Generator) -> Layout:
    """Make a layout in which the same cartons arrive in another sequence."""
    details = get_details(layout)
    order = rng.permutation(len(details.cartons))
    return replace(layout, details=replace(details, cartons=tuple(details.cartons[i] for i in order)))


def _sample_carton(spec: SplitSpec, rng: np.random.Generator) -> Carton:
    length, width, height = spec.sizes[int(rng.integers(len(spec.sizes)))]
    direction = rng.uniform(-np.pi, np.pi)
    share = rng.uniform(*spec.off_centre)
    centre = (
        float(share * length * np.cos(direction)),
        float(share * width * np.sin(direction)),
        float(rng.uniform(-0.1, 0.05) * height),
    )
    mass = float(np.exp(rng.uniform(*np.log(spec.mass_kg))))
    stiffness = float(np.exp(rng.uniform(np.log(4e3), np.log(2e4)))) if rng.random() < spec.soft_share else None
    return Carton(length, width, height, mass, float(rng.uniform(*spec.friction)), centre, stiffness)
