"""What people run: experiments, their evaluation and comparison, reports, and the `ground` command."""
