"""logistics/palletise: an arm with a suction gripper stacks mixed cartons on a pallet.

An action is a whole skill: it picks a carton at an infeed place, swings it to the pallet at a speed,
lowers it and lets go. Pallet and cartons have half of their usual lengths, because of the reach of
the arm. Success: after all cartons are placed, the pallet is accelerated as by a vehicle, and the
whole order still stands on it. Violations: a carton is dropped or pressed too hard, the arm touches
the stack, a carton reaches beyond the pallet or the height limit, the stack falls.
"""
