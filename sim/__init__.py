"""Simulation: layouts, robots, physics, sensors, tasks and episodes.

Only this package touches PyBullet. It imports nothing from the packages above it.
"""
