"""The page in the browser: tabs, plots and the server that shows it."""
