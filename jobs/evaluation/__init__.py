"""Does a compressed prompt still answer? What `python -m jobs.evaluate` is made of."""
