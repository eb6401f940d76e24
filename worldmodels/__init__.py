"""World models: learned dynamics, and the simulator behind the same interface."""
