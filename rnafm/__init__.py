"""Train, fine-tune and apply RNA foundation models."""

__version__ = "0.1.0"
