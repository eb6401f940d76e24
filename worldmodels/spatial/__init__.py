"""Models of rigid bodies in space, SE(3)."""
