"""factory/conveyor-sort: an arm pushes parts off a moving belt into the bin of their kind.

The tool is a paddle of 7 cm, hardly wider than a part. Contact decides what happens: a part that is
pushed off its centre turns, a cylinder rolls away, and parts that touch are pushed together. A bar
across the belt would sweep parts without regard to contact, and a suction gripper would carry them.

Success: all parts of the batch are in their bins. Violations: a part falls beside the belt, lies in
a wrong bin, or jams the belt for 2 s; the tool presses against a rail, stop or bin with more than
30 N. A part at the belt's stop is missed. An action is the tool's velocity across and along the
belt, scaled to [-1, 1].
"""
