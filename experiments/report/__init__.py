"""Reports of runs: measures (numbers), figures (plots), sections (cards) and the page itself."""
