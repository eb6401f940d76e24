"""One file per model family, registered by name."""
