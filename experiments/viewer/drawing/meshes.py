"""Meshes for trimesh, of a scene's primitives and of robot links; the vertices have the colours."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import trimesh
from trimesh.creation import box, cylinder, icosphere
from trimesh.transformations import rotation_matrix

from sim.visuals import Primitive, Primitives

MAX_LINK_COLOUR = (238, 240, 242)  # pure white would hide the shape
MAX_LINK_FACES = 2500  # meshes of robots are made for closer views


def make_trimesh(primitives: Primitives) -> trimesh.Trimesh:
    """Make one mesh of all primitives of a body, so that a body is one node of the page."""
    return _join_parts([_make_primitive(primitive) for primitive in primitives])


@lru_cache(maxsize=64)
def load_link_mesh(file: Path) -> trimesh.Trimesh:
    """Load the mesh of a robot's link with fewer faces, each part in its material's colour."""
    parts = list(trimesh.load_scene(file).geometry.values())
    face_share = min(1.0, MAX_LINK_FACES / sum(len(part.faces) for part in parts))
    coloured_parts = []
    for part in parts:
        part.merge_vertices(merge_tex=True, merge_norm=True)  # else its seams tear open
        material = getattr(part.visual, "material", None)
        colour = (*(MAX_LINK_COLOUR if material is None else material.main_color[:3]),)
        if face_share < 1:
            part = part.simplify_quadric_decimation(face_count=max(4, int(face_share * len(part.faces))))
        coloured_parts.append(_paint(part, np.minimum(colour, MAX_LINK_COLOUR)))
    return _join_parts(coloured_parts)


def _make_primitive(primitive: Primitive) -> trimesh.Trimesh:
    size = primitive.size
    if primitive.shape == "box":
        mesh = box(size)
    elif primitive.shape == "sphere":
        mesh = icosphere(subdivisions=2, radius=size[0])
    else:
        mesh = cylinder(radius=size[0], height=size[1])
    if primitive.shape == "wheel":
        mesh.apply_transform(rotation_matrix(np.pi / 2, (1, 0, 0)))
    mesh.apply_transform(rotation_matrix(primitive.yaw, (0, 0, 1)))
    mesh.apply_translation(primitive.position)
    mesh.unmerge_vertices()  # else edges look round
    return _paint(mesh, np.array(primitive.colour))


def _paint(mesh: trimesh.Trimesh, colour: np.ndarray) -> trimesh.Trimesh:
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=np.array([*colour, 255], np.uint8))
    return mesh


def _join_parts(parts: list[trimesh.Trimesh]) -> trimesh.Trimesh:
    mesh = trimesh.util.concatenate(parts)
    assert isinstance(mesh, trimesh.Trimesh)
    return mesh
