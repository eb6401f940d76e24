"""Models of what sensors see, or of costs alone."""
