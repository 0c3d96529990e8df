"""InfluxDB on both sides, and what writes to it."""
