"""What `ray job submit -- python -m jobs.X` starts: thin commands over `cluster`."""
