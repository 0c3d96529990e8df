"""All kinds of stores pass one suite; what is special about a kind stands in its own file.

A kind's test module makes a `Stand` (see `stand`) and picks from the suite what its traits promise:

    reading          Reading, and of RowsOfOneIdentity and Points the one that fits `is_keyed_by_time`
    fingerprinting   Fingerprinting, and Hashing where a change of any kind must show
    writing          Writing
    failing          Failing
"""

import pytest

for _module in ("stand", "reading", "fingerprinting", "writing", "failing"):
    pytest.register_assert_rewrite(f"tests.consistency.stores.{_module}")
