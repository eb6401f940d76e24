"""Reports of runs: measures (numbers), figures (plots, pictures from above), sections (cards of the page) and the page itself."""
