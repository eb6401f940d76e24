"""Plots and pictures from above."""
