"""The WebSocket transport: each message of a client is an event of its own.

    frames     bytes -> messages, runs of messages, control frames; and frames of our own
    opening    the handshake on both sides

RFC 6455 without extensions: permessage-deflate is declined, so that a frame's bytes mean the same to everybody and
can be passed on as they came.
"""
