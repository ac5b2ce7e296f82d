"""The driver and its pool of workers: what is planned and not committed, shard by shard."""
