"""The WebSocket transport: each message of a client is an event of its own.

frames      bytes -> messages, runs of messages, control frames; and frames of our own
opening     the handshake, on both sides
service     what all sessions of a worker share; begins one
session     the client's side: messages in, answers out
upstream    a session's connection to one backend, made anew when it is lost
exchange    one message on its way
prologue    what both sides must have been told first
context     what a message's event needs to be delivered when the client has left
deliver     deliver(event, attempt) -> Outcome, for the ledger
wire        a connection to a backend from its 101 on

RFC 6455 without extensions: permessage-deflate is declined, so that a frame's bytes mean the same to everybody and
can be passed on as they came.
"""
