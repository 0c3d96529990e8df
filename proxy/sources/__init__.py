"""Sources: servers that one worker at a time subscribes to, and whose events become events of a route.

source: a server that is subscribed to
gap: time without a connection to it, in which it may have told what nobody heard
snapshot: all states of a source at a moment
recovered: told by a snapshot behind a gap, not by the source itself
"""
