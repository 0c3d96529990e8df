"""A real Home Assistant core, and what it feeds."""
