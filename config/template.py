"""The configuration that `proxyctl init` writes: small, commented, ready to run with copies off."""

from __future__ import annotations

import secrets

from config.loader import ConfigErrors, load
from config.reference import REFERENCE_FILE
from config.schema import SCHEMA_FILE
from config.units import UnitError, parse_backend_url

_TEMPLATE = """\
# yaml-language-server: $schema={schema}
#
# Crossfade between two backends. Check this file with `proxyctl check FILE`, start with `proxyctl run FILE`.
# Every key and its default: {reference}
version: 1

# Clients connect here.
listen: ["127.0.0.1:8080"]

# Ledger, live state and sockets; relative to this file.
state_dir: crossfade-state

# Decides which keys go to new first. The same on every replica; never change it during a migration.
# To keep it out of this file: salt: ${{CROSSFADE_SALT}}, or salt_file: PATH.
salt: "{salt}"

backends:
  old:
    url: "{old}"
    # health: {{path: /health}}
  new:
    url: "{new}"
    # health: {{path: /health}}

routes:
  # The first route that matches takes an event. /a/* is everything below /a; /a/{{id}} has a parameter.
  - name: events
    match: {{path: "/*", methods: [POST, PUT, PATCH, DELETE]}}

    # What events are sticky and ordered by: json:/entity_id, header:NAME, cookie:NAME, query:NAME, path:NAME, client.
    key: client

    # Where the event's id is looked for; one is made when none of these has it.
    event_id: [header:X-Event-Id, header:Idempotency-Key]

    # Both dials at the very first start; from then on turn them with `proxyctl stage` and `proxyctl set-weight`.
    # off, shadow, dualwrite, live, split, rampdown, complete
    stage: off

    # Answers wait until both sides are safe: before-ack (default), before-send, or off for best effort.
    durability: before-ack

# What no route takes is passed through to old. Without this line it gets 404.
default: old

admin:
  tcp: 127.0.0.1:9900
"""


def render(old: str, new: str, salt: str | None = None) -> str:
    """A commented configuration for two backends. salt: a random one when None.

    Raises ValueError when a URL is not `http://host:port`, both are the same or one is the proxy's own
    address, or the salt cannot be used.
    """
    addresses = []
    for side, url in (("old", old), ("new", new)):
        try:
            addresses.append(parse_backend_url(url).address)
        except UnitError as error:
            hint = f" (did you mean '{error.suggestion}'?)" if error.suggestion else ""
            raise ValueError(f"{side}: {error}{hint}") from None
    if addresses[0] == addresses[1]:
        raise ValueError(f"old and new are the same backend, {old}")
    salt = secrets.token_hex(16) if salt is None else salt
    if not 8 <= len(salt) <= 4096 or not salt.isascii() or not salt.replace("-", "").replace("_", "").isalnum():
        raise ValueError("the salt must be 8 to 4096 characters of a-z, A-Z, 0-9, '-' and '_'")
    text = _TEMPLATE.format(schema=SCHEMA_FILE, reference=REFERENCE_FILE, salt=salt, old=old, new=new)
    try:
        load("/crossfade.yaml", text=text, environ={})
    except ConfigErrors as found:
        # What only shows in the whole: a backend at the address where the proxy itself will listen.
        raise ValueError("; ".join(error.message for error in found)) from None
    return text
