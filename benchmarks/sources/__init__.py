"""What a source costs and adds, with real processes: a house that speaks as Home Assistant, the daemon, two stores."""
