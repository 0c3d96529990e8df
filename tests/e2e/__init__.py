"""Crossfade as a whole, with real processes and faults."""
