"""Commands that need no Trainer: one typed function per file."""
