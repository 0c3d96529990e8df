"""`make demo-home-assistant`: a monolith behind a real Home Assistant is replaced by services, and nothing is lost.

__main__.py       arguments, Ctrl-C, the exit code
run.py            puts it together, ends it          compared.py       the recorder against a store
story.py          what happens, in order             latency.py        how long changes took to their stores
outcome.py        the judgement                      direct.py         the same way without a proxy (a process)
parts.py          everything that runs               house.py          what changes in Home Assistant
configuration.py  the proxy's                        commands.py       proxyctl, as a person types it
"""
