"""logistics/aisle-traffic: a differential-drive AMR crosses a hall among people and forklifts.

Success: the robot's centre is within 0.25 m of the goal. Violations: the robot touches a static box
with more than 1 N, touches a person or a forklift, comes closer than 0.5 m to a person, or leaves
the hall. Costs are in metres, angles in radians; an action is forward speed and yaw rate,
scaled to [-1, 1].
"""
