"""Consumers behind Home Assistant: old and new connect to the proxy as if it were one, and both are fed its events.

consumer: a backend that connects itself; it gives an access token, by which it is known
feed: what one consumer is to get, in the order of each key; its cursor is what the ledger has pending for that side
fed connection: the one of a consumer's connections that subscribed last; events go there alone
"""
