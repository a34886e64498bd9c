"""Meters and pictures for the Trainer."""
