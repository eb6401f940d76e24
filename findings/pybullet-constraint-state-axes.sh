#!/bin/sh
# Package: pybullet 3.2.7 (CPython 3.11, x86-64 Linux)
# Expected: getConstraintState of a fixed constraint between two bodies gives force and moment in the same axes, those of the world.
# Observed: the force is in the axes of the world, the moment in the axes of the constraint's frame on the parent. With a parent
#           turned by 1 rad about the vertical and the same load, the moment's numbers turn by -1 rad and the force's do not.
# Output seen:
#     parent turned by 0.0 rad: force (-10.00, +0.00, -49.05) N, moment (+0.000, +2.471, +0.000) N m
#     parent turned by 1.0 rad: force (-10.00, +0.00, -49.05) N, moment (+2.080, +1.335, +0.000) N m
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pybullet==3.2.7 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON_END'
import math

import numpy as np
import pybullet as p

LEVER, PIVOT_Z = 0.03, 1.0


def read_state(angle):
    """Hang a carton of 5 kg below a static parent, its centre 3 cm beside the pivot along the world's x."""
    p.resetSimulation()
    p.setGravity(-2, 0, -9.81)  # 10 N along x tell the axes of the force
    turn = [0, 0, math.sin(angle / 2), math.cos(angle / 2)]
    parent_shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=[0.05, 0.05, 0.05])
    child_shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=[0.1, 0.1, 0.1])
    parent = p.createMultiBody(0, parent_shape, basePosition=[0, 0, PIVOT_Z + 0.05], baseOrientation=turn)
    child = p.createMultiBody(5, child_shape, basePosition=[LEVER, 0, PIVOT_Z - 0.1])
    p.setCollisionFilterPair(parent, child, -1, -1, 0)
    # both frames of the constraint have the axes of the parent
    constraint = p.createConstraint(
        parent, -1, child, -1, p.JOINT_FIXED, [0, 0, 0], [0, 0, -0.05], [-LEVER, 0, 0.1], [0, 0, 0, 1], turn
    )
    p.changeConstraint(constraint, maxForce=1e5)
    for _ in range(240):
        p.stepSimulation()
    state = np.array(p.getConstraintState(constraint)).round(6) + 0.0
    force, moment = state[:3], state[3:]
    print(f"parent turned by {angle} rad: force ({', '.join(f'{x:+.2f}' for x in force)}) N, "
          f"moment ({', '.join(f'{x:+.3f}' for x in moment)}) N m")
    return force, moment


p.connect(p.DIRECT)
force, moment = read_state(0.0)
turned_force, turned_moment = read_state(1.0)
c, s = math.cos(1.0), math.sin(1.0)
in_parent = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) @ moment
assert np.allclose(force, turned_force, atol=0.01), "the force is no longer in the axes of the world"
assert np.allclose(turned_moment, in_parent, atol=0.01), "the moment is no longer in the axes of the parent"
assert np.linalg.norm(turned_moment - moment) > 0.5, "the axes make no difference"
PYTHON_END
