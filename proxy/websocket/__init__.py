"""The WebSocket transport: each message of a client is an event of its own.

frames      bytes -> messages, runs of messages, control frames; and frames of our own
opening     the handshake, on both sides
service     what all sessions of a worker share; begins one
session     one session, from its handshake to its end: what its parts have in common
reception   a client's handshake, until the authority has agreed
intake      what a client says becomes events, each with its sides
choosing    where each of them goes
patience    when one waits for a backend, and how long
acknowledgements    what a client is told of its messages, and when
upstream    a session's link to one backend, made anew when it is lost
receipts    what a link was given, until nothing can be lost of it
replies     `receipt: reply`: which message of a backend answers which of a client's
exchange    one message on its way
prologue    what both sides must have been told first
context     what a message's event needs to be delivered when the client has left
deliver     deliver(event, attempt) -> Outcome, for the ledger: its own sessions
handshake   one try to open a session with a backend; wire: the connection from its 101 on. Of links and couriers alike

RFC 6455 without extensions: permessage-deflate is declined, so that a frame's bytes mean the same to everybody and
can be passed on as they came.
"""
