"""How a corpus is cut into shards, spread over workers and committed; a killed run loses and doubles nothing."""
