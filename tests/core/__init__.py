"""The core alone: scripts of values in and values out."""
