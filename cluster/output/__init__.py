"""The plan of an output, its parts and their commit, the audit of them, and the reuse of an earlier output."""
