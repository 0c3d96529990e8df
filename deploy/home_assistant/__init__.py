"""A real Home Assistant core, and the backends of a migration that it feeds: a monolith, and services in its place.

    install.py    Home Assistant in an environment of its own, build/home-assistant
    core.py       one Home Assistant: its configuration, its life, its API
    settings.py   parts of its configuration: writing to InfluxDB, bursts
    session.py    what its API is asked: owner and token, states, actions, WebSocket commands
    recorded.py   what its recorder stored
    events.py     a `state_changed` event, and the point that it is in InfluxDB
    influxdb.py   a database that points are written to
    services.py   the monolith, and ingest, enrich and store: one process each
    backends.py   these processes seen from outside: start them, break them

Home Assistant is never asked to install anything or to look at the network: see DECISIONS.md.
"""
