"""What the training jobs are made of: distribution alignment (`jobs.align`) and distilled encoders (`jobs.distill`)."""
