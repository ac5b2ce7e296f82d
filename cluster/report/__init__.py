"""What a run tells while it goes on and at its end: progress, telemetry, statistics, one HTML page."""
