"""Continuous batching of prompt coroutines over one primitive, `Score`."""
