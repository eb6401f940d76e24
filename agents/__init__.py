"""Agents that choose actions: planners on a world model, and learned baselines."""
