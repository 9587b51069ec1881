"""Egress: watches what leaves AI hosts and notices when model weights go with it."""

__version__ = "0.1.0"
