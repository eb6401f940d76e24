"""Geometry of a stack: which cartons are on the pallet, what is below a place, supported area.

All functions accept numpy arrays and torch tensors of any batch shape.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sim.bodies import Bodies, Kind
from sim.geometry.arrays import Array, clamp, get_namespace
from sim.geometry.rotations import compute_yaw, rotate

PALLET_LENGTH_M = 0.6  # half of 1.2 m, because of the arm's reach
PALLET_WIDTH_M = 0.4
PALLET_HEIGHT_M = 0.072
ON_TOP_M = 0.005  # height difference of two faces that touch; cartons on faces that differ more tilt
OVERLAP_MARGIN_M = 0.003  # cartons side by side do not lie on each other
FAR_M = 10.0
OUTLINE_MARGIN_M = 0.01  # by which a carton may reach beyond the pallet

SURFACE_CELLS = (20, 14)  # of the height map of a stack
MIN_ROOM_M = 0.08  # below the height limit, in which a carton fits
WALL_DEPTH_M = 0.2  # of the space beside a step that is hard to use


@dataclass(frozen=True)
class PalletField:
    """The pallet of an observation, in numpy or torch: what a task needs of static bodies."""

    place: Array  # (3,) x, y [m] and yaw [rad] of the pallet; or (..., 1, 3), and so below
    half: Array  # (2,) half length and half width [m]
    limits: Array  # (2,) height of the pallet's top, and of the highest top of a carton [m]

    def map(self, convert: Callable[[Any], Any]) -> Self:
        """Apply a function to each array."""
        return type(self)(convert(self.place), convert(self.half), convert(self.limits))


@dataclass(frozen=True)
class Stack:
    """N bodies in the frame of the pallet, lengths in metres."""

    x: Array  # (..., N) centre along the pallet's length
    y: Array  # (..., N)
    half_x: Array  # (..., N) half size of the upright box around it
    half_y: Array
    top: Array  # (..., N) height of its top above the floor
    bottom: Array
    is_carton: Array  # (..., N) bool: present
    is_placed: Array  # (..., N) bool: a present carton above the pallet


def make_field(bodies: Bodies) -> PalletField:
    """Read the pallet of an observation, and the height limit, which a post beside it shows.

    Args:
        bodies: (N,) as in an observation.
    """
    gauge = int(np.flatnonzero((bodies.kind == Kind.WALL) & (bodies.present > 0))[0])
    limit = float(bodies.pose[gauge, 2] + bodies.half_extents[gauge, 2])
    row = int(np.flatnonzero((bodies.kind == Kind.PALLET) & (bodies.present > 0))[0])
    pose, half = bodies.pose[row].astype(float), bodies.half_extents[row].astype(float)
    top = pose[2] + half[2]
    place = np.array([pose[0], pose[1], float(compute_yaw(pose[3:]))], np.float32)
    return PalletField(place, half[:2].astype(np.float32), np.array([top, limit], np.float32))


def measure_stack(bodies: Bodies, field: PalletField) -> Stack:
    """Measure the boxes around all bodies in the pallet's frame.

    Args:
        bodies: (..., N) bodies, with or without static ones.
        field: the pallet.
    """
    xp = get_namespace(bodies.pose)
    place, half = field.place, field.half
    quaternion = bodies.pose[..., 3:]
    offset = rotate(bodies.pose[..., :2] - place[..., :2], xp.zeros_like(bodies.pose[..., 0]) - place[..., 2])
    half_x, half_y, half_z = compute_box_sizes(quaternion, bodies.half_extents, place[..., 2])
    is_carton = (bodies.present > 0) & (bodies.kind == Kind.LOAD)
    x, y, z = offset[..., 0], offset[..., 1], bodies.pose[..., 2]
    above = (abs(x) < half[..., 0] + OUTLINE_MARGIN_M) & (abs(y) < half[..., 1] + OUTLINE_MARGIN_M)
    above = above & (z > field.limits[..., 0])
    return Stack(x, y, half_x, half_y, z + half_z, z - half_z, is_carton, is_carton & above)


def compute_box_sizes(quaternion: Array, half_extents: Array, yaw: Array) -> tuple[Array, Array, Array]:
    """Compute the half sizes of the boxes around turned boxes, along axes turned by a yaw.

    Args:
        quaternion: (..., 4) xyzw.
        half_extents: (..., 3) [m].
        yaw: (...) of the axes [rad].

    Returns:
        Three arrays (...) [m].
    """
    xp = get_namespace(quaternion)
    x, y, z, w = (quaternion[..., i] for i in range(4))
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    c, s = xp.cos(yaw), xp.sin(yaw)
    turned = (
        [c * a + s * b for a, b in zip(rows[0], rows[1], strict=True)],
        [c * b - s * a for a, b in zip(rows[0], rows[1], strict=True)],
        list(rows[2]),
    )
    sizes = [sum(abs(part) * half_extents[..., i] for i, part in enumerate(row)) for row in turned]
    return sizes[0], sizes[1], sizes[2]


def compute_overlaps(stack: Stack, x: Array, y: Array, half_x: Array, half_y: Array) -> tuple[Array, Array]:
    """Compute how rectangles overlap with those of all bodies, seen from above.

    Args:
        stack: (..., N) bodies.
        x: (..., K) centres of rectangles in the pallet's frame [m]; so is y.
        half_x: (..., K) half sizes [m]; so is half_y.

    Returns:
        Overlap (..., K, N) along the pallet's length and width [m]; negative: a gap.
    """
    xp = get_namespace(stack.x)

    def overlap(centre: Array, half: Array, other_centre: Array, other_half: Array) -> Array:
        centre, half = centre[..., :, None], half[..., :, None]
        other_centre, other_half = other_centre[..., None, :], other_half[..., None, :]
        low = xp.maximum(centre - half, other_centre - other_half)
        return xp.minimum(centre + half, other_centre + other_half) - low

    return overlap(x, half_x, stack.x, stack.half_x), overlap(y, half_y, stack.y, stack.half_y)


def find_support_heights(
    stack: Stack,
    field: PalletField,
    x: Array,
    y: Array,
    half_x: Array,
    half_y: Array,
    ignored: Array,
    margin_m: float = OVERLAP_MARGIN_M,
) -> Array:
    """Find the height of the highest top below rectangles, at least that of the pallet or floor.

    Args:
        stack: (..., N) bodies.
        field: the pallet.
        x: (..., K) centres in the pallet's frame [m], as in `compute_overlaps`.
        ignored: (..., K, N) bool, bodies that do not count.
        margin_m: overlap up to which a body is beside a rectangle; negative: a gap that is needed.

    Returns:
        (..., K) heights above the floor [m].
    """
    xp = get_namespace(stack.x)
    overlap_x, overlap_y = compute_overlaps(stack, x, y, half_x, half_y)
    is_below = (overlap_x > margin_m) & (overlap_y > margin_m) & stack.is_placed[..., None, :] & ~ignored
    tops = xp.where(is_below, stack.top[..., None, :] + xp.zeros_like(overlap_x), xp.zeros_like(overlap_x))
    on_pallet = (abs(x) - half_x < field.half[..., 0]) & (abs(y) - half_y < field.half[..., 1])
    base = xp.where(on_pallet, xp.zeros_like(x) + field.limits[..., 0], xp.zeros_like(x))
    highest = tops.max(-1) if xp is np else tops.amax(-1)
    return xp.maximum(highest, base)


def measure_support(
    stack: Stack, field: PalletField, x: Array, y: Array, half_x: Array, half_y: Array, height: Array, ignored: Array
) -> tuple[Array, Array]:
    """Measure how cartons or the pallet support rectangles at a height.

    Args:
        stack: (..., N) bodies; cartons of equal height do not overlap.
        height: (..., K) of the rectangles above the floor [m].
        ignored: (..., K, N) bool, bodies that do not count.

    Returns:
        share: (..., K) supported share of the area, in [0, 1].
        reach: (..., K) distance from the middle to the end of the supported area in the weakest of
            the four directions, as a share of the half size; negative: the middle is beside it.
    """
    xp = get_namespace(x)
    touches = (abs(stack.top[..., None, :] - height[..., :, None]) < ON_TOP_M) & stack.is_placed[..., None, :] & ~ignored
    on_pallet = abs(height - field.limits[..., 0]) < ON_TOP_M
    zeros = xp.zeros_like(x)
    area, pallet_area = xp.ones_like(touches, dtype=x.dtype), xp.ones_like(x)
    bounds = []
    for centre, half, other, other_half, size in (
        (x, half_x, stack.x, stack.half_x, field.half[..., 0]), (y, half_y, stack.y, stack.half_y, field.half[..., 1]),
    ):  # fmt: skip
        low = xp.maximum((centre - half)[..., :, None], (other - other_half)[..., None, :])
        high = xp.minimum((centre + half)[..., :, None], (other + other_half)[..., None, :])
        pallet_low, pallet_high = xp.maximum(centre - half, zeros - size), xp.minimum(centre + half, zeros + size)
        area, pallet_area = area * clamp(high - low, 0), pallet_area * clamp(pallet_high - pallet_low, 0)
        bounds.append((centre, half, low, high, pallet_low, pallet_high))
    touches = touches & (area > 0)
    on_pallet = on_pallet & (pallet_area > 0)
    share = xp.where(touches, area, 0 * area).sum(-1) + xp.where(on_pallet, pallet_area, zeros)
    reach = zeros + 1
    for centre, half, low, high, pallet_low, pallet_high in bounds:
        low = xp.min(xp.where(touches, low, 0 * low + FAR_M), axis=-1)
        high = xp.max(xp.where(touches, high, 0 * high - FAR_M), axis=-1)
        low = xp.where(on_pallet, xp.minimum(low, pallet_low), low)
        high = xp.where(on_pallet, xp.maximum(high, pallet_high), high)
        reach = xp.minimum(reach, xp.minimum(centre - low, high - centre) / clamp(half, 1e-9))
    return clamp(share / clamp(4 * half_x * half_y, 1e-9), 0, 1), clamp(reach, -1, 1)


def measure_surface(stack: Stack, field: PalletField) -> tuple[Array, Array]:
    """Measure the surface of a stack, as shares of the space below the height limit.

    Args:
        stack: (..., N) bodies.
        field: the pallet.

    Returns:
        waste: (...) space under cartons that is not filled, and above where no carton fits.
        walls: (...) area of the steps of the surface, times WALL_DEPTH_M.
    """
    xp = get_namespace(stack.x)
    room = field.limits[..., 1] - field.limits[..., 0]
    covers, cells_m = [], []
    for centre, half, size, count in zip(
        (stack.x, stack.y), (stack.half_x, stack.half_y), (field.half[..., 0], field.half[..., 1]), SURFACE_CELLS, strict=True
    ):
        places = ((xp.arange(count) + 0.5) / count * 2 - 1) * size[..., None]
        covers.append(abs(places - centre[..., None]) < half[..., None])
        cells_m.append(2 * size / count)
    is_covered = covers[0][..., :, None] & covers[1][..., None, :] & stack.is_placed[..., None, None]
    top = (stack.top - field.limits[..., 0])[..., None, None]
    tops = xp.where(is_covered, top, 0 * top)
    height = tops.max(-3) if xp is np else tops.amax(-3)
    left = room[..., None, None] - height
    area = cells_m[0] * cells_m[1]
    space = area * SURFACE_CELLS[0] * SURFACE_CELLS[1] * room
    volume = (8 * stack.half_x * stack.half_y * (stack.top - stack.bottom) / 2 * stack.is_placed).sum(-1)
    dead = xp.where((left < MIN_ROOM_M) & (height > 0), left, 0 * left)
    waste = area * (height.sum((-2, -1)) + dead.sum((-2, -1))) - volume
    walls = cells_m[1] * abs(height[..., 1:, :] - height[..., :-1, :]).sum((-2, -1))
    walls = walls + cells_m[0] * abs(height[..., 1:] - height[..., :-1]).sum((-2, -1))
    return waste / space, WALL_DEPTH_M * walls / space


def compute_overhang(stack: Stack, field: PalletField) -> Array:
    """Compute the distance (..., N) by which bodies reach beyond the pallet [m]; negative inside."""
    xp = get_namespace(stack.x)
    return xp.maximum(abs(stack.x) + stack.half_x - field.half[..., 0], abs(stack.y) + stack.half_y - field.half[..., 1])
