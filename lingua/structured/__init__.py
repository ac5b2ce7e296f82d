"""What of a structured text may be compressed, and by how much: tags, JSON, chat messages, Markdown."""

from __future__ import annotations
