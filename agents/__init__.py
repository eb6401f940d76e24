"""Who decides: planners that imagine with a world model, and the learned baselines they are compared with."""
