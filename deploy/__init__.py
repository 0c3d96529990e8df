"""What stands beside us in a migration, for tests and demos in a checkout; nothing of it is in the wheel."""
