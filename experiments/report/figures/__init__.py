"""Plots, and images of layouts from above."""
