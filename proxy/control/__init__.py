"""The control plane: launcher, supervisor, live state, trigger, audit, admin API."""
