"""What `jobs.benchmark` is made of: prompts, models, contenders, the roofline and the report. Needs no Ray."""
