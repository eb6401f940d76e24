#!/bin/sh
# Package: pybullet 3.2.7 (CPython 3.11, x86-64 Linux)
# Expected: setPhysicsEngineParameter changes the server that it is sent to, and resetSimulation brings the defaults back.
# Observed: contactBreakingThreshold is one number for all servers of a process. Set on one of them it changes how a box slides on
#           another one, and resetSimulation keeps it. Other parameters, such as numSolverIterations, belong to one server.
# Output seen:
#     contactBreakingThreshold of another server: the box turns by another angle
#     contactBreakingThreshold, after resetSimulation of all servers: the box turns by another angle
#     numSolverIterations of another server: the box turns by the same angle
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pybullet==3.2.7 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON_END'
import pybullet as p

first, second = p.connect(p.DIRECT), p.connect(p.DIRECT)


def slide():
    """Slide a spinning box on a floor, on the first server."""
    p.resetSimulation(physicsClientId=first)
    p.setGravity(0, 0, -9.81, physicsClientId=first)
    floor = p.createCollisionShape(p.GEOM_BOX, halfExtents=[5, 5, 0.5], physicsClientId=first)
    p.createMultiBody(0, floor, -1, [0, 0, -0.5], physicsClientId=first)
    shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=[0.2, 0.15, 0.1], physicsClientId=first)
    box = p.createMultiBody(2, shape, -1, [0, 0, 0.1], physicsClientId=first)
    p.resetBaseVelocity(box, [0.8, 0, 0], [0, 0, 4], physicsClientId=first)
    for _ in range(240):
        p.stepSimulation(physicsClientId=first)
    rotation = p.getBasePositionAndOrientation(box, physicsClientId=first)[1]
    return p.getEulerFromQuaternion(rotation)[2]


def describe(angle):
    return "the same angle" if angle == before else "another angle"


before = slide()
assert slide() == before
p.setPhysicsEngineParameter(numSolverIterations=5, physicsClientId=second)
iterations = describe(slide())
p.setPhysicsEngineParameter(contactBreakingThreshold=0.2, physicsClientId=second)
shared = describe(slide())
p.resetSimulation(physicsClientId=second)
kept = describe(slide())
p.setPhysicsEngineParameter(contactBreakingThreshold=0.02, physicsClientId=second)
assert slide() == before
print(f"contactBreakingThreshold of another server: the box turns by {shared}")
print(f"contactBreakingThreshold, after resetSimulation of all servers: the box turns by {kept}")
print(f"numSolverIterations of another server: the box turns by {iterations}")
assert (iterations, shared, kept) == ("the same angle", "another angle", "another angle")
PYTHON_END
