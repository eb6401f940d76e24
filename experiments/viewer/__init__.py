"""Scenes in 3-D in the browser: how things look, and what a page shows of an episode."""
