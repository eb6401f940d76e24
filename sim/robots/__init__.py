"""One file per robot: its shape, its drive and its limits, and what an action means."""
