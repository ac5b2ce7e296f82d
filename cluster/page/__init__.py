"""The report of a run: one HTML page made of what lies beside the output, readable in a browser without a network."""
