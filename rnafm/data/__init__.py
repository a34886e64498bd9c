"""Files -> Batch."""
