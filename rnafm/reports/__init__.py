"""Numbers with intervals, floors to compare them with, tables and pictures."""
