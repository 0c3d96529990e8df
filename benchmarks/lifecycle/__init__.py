"""What clients notice while an instance reloads, is upgraded, or loses processes: nothing."""
