"""Compiled passes over packets: framing, decoding, the flow table. Nothing here is a Python object per packet."""
