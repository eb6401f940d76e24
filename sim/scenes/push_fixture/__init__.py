"""factory/push-fixture: an arm's tool pushes a part over a table to a pose in a fixture.

Success: the part lies within 20 mm and 10° of its goal pose, and rests. Violations: the tool or the
part presses against a clamp or stop with more than 15 N, the part falls off the table or tips over
(tilt cosine below 0.8), or a joint of the arm is at its limit. Costs are in units of 0.2 m, angles
in radians; an action is the tool's velocity along x and y, scaled to [-1, 1].
"""
