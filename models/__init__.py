"""Detectors, one file each: online learners over windowed signals."""
