"""Why a store could not say or do what it was asked.

StoreError
+-- StoreUnreachable   no connection, no answer in time, or its own failure (5xx): may pass, worth trying again
+-- StoreDenied        it does not know our credential, or does not let us read or write there
+-- StoreMissing       there is no such database, table, column, measurement or path
+-- StoreChanged       what it holds does not fit what it said before: its schema changed, or one name has several types
+-- StoreGarbage       it said something that is none of its protocol's answers, or a value that cannot be compared
+-- StoreRefused       it refused rows that were to be written, all or some of them

Every one of them makes a check inconclusive with its text as the reason: never a mismatch, never a pass. Texts name
the store and say what to do, and never hold a credential.
"""

from __future__ import annotations


class StoreError(Exception):
    """A store could not say or do it. store: its name in the configuration."""

    def __init__(self, store: str, message: str) -> None:
        super().__init__(f"store {store}: {message}")
        self.store = store


class StoreUnreachable(StoreError):
    """It may be there again later."""


class StoreDenied(StoreError):
    """A credential has to be mended."""


class StoreMissing(StoreError):
    """Something that the configuration names is not there."""


class StoreChanged(StoreError):
    """What was read so far and what is read now do not fit together."""


class StoreGarbage(StoreError):
    """It speaks another protocol than the configuration says, or holds what has no meaning here."""


class StoreRefused(StoreError):
    """Rows were refused. written: how many of them are stored all the same; None when it does not say."""

    def __init__(self, store: str, message: str, written: int | None = None) -> None:
        super().__init__(store, message)
        self.written = written
