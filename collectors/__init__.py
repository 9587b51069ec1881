"""Sources, one file each: turn captures, exports and logs into flow frames."""
