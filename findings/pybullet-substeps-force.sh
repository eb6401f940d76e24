#!/bin/sh
# Package: pybullet 3.2.7 (CPython 3.11, x86-64 Linux)
# Expected: the contact force under a resting box of 1 kg is its weight, 9.81 N, for any numSubSteps.
# Observed: with numSubSteps n (n > 1) the reported normal force is 9.81 N / n. A force threshold then depends on a solver setting.
# Output seen:
#     numSubSteps 1: 9.810 N
#     numSubSteps 2: 4.905 N
#     numSubSteps 4: 2.453 N
#     numSubSteps 8: 1.226 N
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pybullet==3.2.7 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON_END'
import pybullet as p

p.connect(p.DIRECT)
for substeps in (1, 2, 4, 8):
    p.resetSimulation()
    p.setGravity(0, 0, -9.81)
    p.setPhysicsEngineParameter(fixedTimeStep=1 / 240, numSubSteps=substeps)
    floor_shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=[5, 5, 0.5])
    box_shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=[0.1, 0.1, 0.1])
    floor = p.createMultiBody(0, floor_shape, basePosition=[0, 0, -0.5])
    box = p.createMultiBody(1, box_shape, basePosition=[0, 0, 0.1])
    for _ in range(240):
        p.stepSimulation()
    force = sum(point[9] for point in p.getContactPoints(floor, box))
    print(f"numSubSteps {substeps}: {force:.3f} N")
    assert abs(force - 9.81 / substeps) < 1e-3, "the force is no longer divided by the number of substeps"
PYTHON_END
