"""What `jobs.benchmark` is made of: prompts, the model, contenders, the peer, hardware, the report. Needs no Ray."""
