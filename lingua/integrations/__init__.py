"""Thin adapters to other libraries, each an optional extra; the engine runs in the caller's process."""
