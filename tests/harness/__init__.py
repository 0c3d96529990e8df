"""Real processes for the end to end tests: two toy backends, the daemon, loads, and the comparison of all of them."""
