#!/bin/sh
# Package: pybullet 3.2.7 (CPython 3.11, x86-64 Linux)
# Expected: after changeDynamics(mass=4) on a link of 2 kg, calculateInverseDynamics returns twice the gravity torque.
# Observed: it does so only where inverse dynamics were never called before. One earlier call fixes the old mass for this body,
#           while getDynamicsInfo shows the new one.
# Output seen:
#     called before the change: mass 4 kg, torque -9.81 N m
#     not called before:        mass 4 kg, torque -19.62 N m
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pybullet==3.2.7 numpy==2.4.6
cat >"$folder/bar.urdf" <<'URDF_END'
<robot name="bar">
  <link name="base"><inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="bar">
    <inertial>
      <origin xyz="0.5 0 0"/><mass value="2"/><inertia ixx="0.1" iyy="0.1" izz="0.1" ixy="0" ixz="0" iyz="0"/>
    </inertial>
  </link>
  <joint name="hinge" type="continuous"><parent link="base"/><child link="bar"/><axis xyz="0 1 0"/></joint>
</robot>
URDF_END
"$folder/venv/bin/python" - "$folder/bar.urdf" <<'PYTHON_END'
import sys

import pybullet as p

p.connect(p.DIRECT)


def compute_torque(is_called_before):
    p.resetSimulation()
    p.setGravity(0, 0, -9.81)
    bar = p.loadURDF(sys.argv[1], useFixedBase=True)
    if is_called_before:
        p.calculateInverseDynamics(bar, [0.0], [0.0], [0.0])
    p.changeDynamics(bar, 0, mass=4)
    return p.getDynamicsInfo(bar, 0)[0], p.calculateInverseDynamics(bar, [0.0], [0.0], [0.0])[0]


for is_called_before, label, torque in ((True, "called before the change:", -9.81), (False, "not called before:       ", -19.62)):
    mass, measured = compute_torque(is_called_before)
    print(f"{label} mass {mass:g} kg, torque {measured:.2f} N m")
    assert mass == 4 and abs(measured - torque) < 1e-6, "changeDynamics and inverse dynamics interact differently now"
PYTHON_END
