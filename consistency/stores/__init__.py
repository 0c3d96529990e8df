"""Stores: one protocol for all of them, one file for each kind.

`protocol` says what a store is asked, `errors` why it may not answer. All kinds pass one suite of tests.
"""
