"""Work that may never end, in a thread that nobody has to wait for.

The threads of a pool are shared, and joined when the process ends: one that hangs (a mount that does not answer) takes
the place of others, and holds the end up. What runs here takes nobody's place.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def begin(name: str, work: Callable[[], T]) -> Future[T]:
    """Begin some work in a daemon thread of its own; whoever begins bounds how much is under way.

    Await it with `asyncio.wrap_future`: that may be cancelled, and the work goes on. Raises OSError without a thread.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # from here on a cancelled wait cannot cancel it

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is of the one who waits
            future.set_exception(error)
        else:
            future.set_result(result)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from None
    return future
