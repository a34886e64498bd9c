"""Tensors -> tensors: torch only."""
