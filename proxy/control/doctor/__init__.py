"""The doctor: looks at everything around an instance that may be wrong, and says what to change.

    python -m proxy.control.doctor FILE ----+
                                            +--> examine() --> [Finding, ...]
    GET /api/v1/doctor (a running one) -----+       |
                                                    clocks  host  disk  record  backends  stores  running

Each module looks at one thing and returns findings; none changes anything that an instance goes by, and none raises for
what it finds. What takes long or may hang has a time limit of its own.
"""
