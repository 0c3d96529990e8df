"""What the guard and a rollback do in time, with real processes: the daemon between two toy backends, under load."""
