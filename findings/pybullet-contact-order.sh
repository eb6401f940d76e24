#!/bin/sh
# Package: pybullet 3.2.7 (CPython 3.11, x86-64 Linux)
# Expected: getContactPoints(b, a) is getContactPoints(a, b) with the roles swapped: normal and friction directions change sign.
# Observed: the normal changes its sign, the friction directions do not. The friction force is the force on the body that Bullet
#           itself lists first, whichever order is asked for.
# Output seen:
#     (floor, box): normal force z -4.593 N, friction x +1.148 N
#     (box, floor): normal force z +4.593 N, friction x +1.148 N
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pybullet==3.2.7 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON_END'
import pybullet as p

p.connect(p.DIRECT)
p.setGravity(0, 0, -9.81)
floor_shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=[5, 5, 0.5])
box_shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=[0.1, 0.1, 0.1])
floor = p.createMultiBody(0, floor_shape, basePosition=[0, 0, -0.5])
box = p.createMultiBody(1, box_shape, basePosition=[0, 0, 0.1])
for _ in range(100):
    p.stepSimulation()
p.resetBaseVelocity(box, [1, 0, 0])  # the box slides along x
for _ in range(10):
    p.stepSimulation()


def sum_forces(first, second):
    points = p.getContactPoints(first, second)
    normal_z = sum(point[7][2] * point[9] for point in points)
    friction_x = sum(point[11][0] * point[10] + point[13][0] * point[12] for point in points)
    return normal_z, friction_x


floor_box, box_floor = sum_forces(floor, box), sum_forces(box, floor)
print(f"(floor, box): normal force z {floor_box[0]:+.3f} N, friction x {floor_box[1]:+.3f} N")
print(f"(box, floor): normal force z {box_floor[0]:+.3f} N, friction x {box_floor[1]:+.3f} N")
assert abs(floor_box[0] + box_floor[0]) < 1e-9 < abs(floor_box[0]), "the normals are no longer mirrored"
assert abs(floor_box[1] - box_floor[1]) < 1e-9 < abs(floor_box[1]), "the friction directions depend on the order now"
PYTHON_END
