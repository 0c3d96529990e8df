"""The demonstration around a real Home Assistant, part by part."""
