"""Numbers computed from episode results; no figures and no HTML."""
