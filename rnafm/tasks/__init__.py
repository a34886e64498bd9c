"""Encoder + head + objective: one task per file."""
