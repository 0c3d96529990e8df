"""What a session and each of its messages cost. Clients and backends are processes of their own, on the load's core."""
