"""How much each part of a prompt may keep, and which of its units."""
