"""What a run looks like afterwards: pictures from above (topdown), 3-D recordings (recording), the numbers (summary),
and the one HTML page that shows them all (html)."""
