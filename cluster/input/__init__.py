"""Files → deterministic shards; Parquet and JSON Lines → rows → prompts."""
