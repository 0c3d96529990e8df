"""Typed startup settings: what a person writes in the YAML file, read once when a process starts.

Live routing (weight, copy, latch) is another type and lives in `proxy.core.routing`: it changes while
traffic flows and is never written back here.
"""
