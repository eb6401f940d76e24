"""What exists and what happens to it: spaces, robots, physics, tasks, episodes.

Only this package touches PyBullet. It imports nothing from the packages above it.
"""
