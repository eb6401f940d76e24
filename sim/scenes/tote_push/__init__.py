"""logistics/tote-push: a differential-drive AMR pushes a tote through a hall with racks to a bay.

Success: the tote's centre is within 0.15 m of the goal. Violations: the robot or a tote hits a
static box with more than 50 N, a tote tips over (tilt cosine below 0.8), or the robot leaves the
hall. Costs are in metres, angles in radians; an action is forward speed and yaw rate, scaled
to [-1, 1].
"""
