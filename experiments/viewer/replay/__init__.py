"""Replays of episodes and everything that users do with them; nothing here draws or needs viser."""
