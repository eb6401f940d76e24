"""Replays in 3-D: meshes, overlays, servers and recordings."""
