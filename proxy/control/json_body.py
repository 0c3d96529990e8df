"""The body of a request: read within a time, decoded to the type of its operation, refused by the name of the field."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from aiohttp import web

from proxy.control.operations import Operation
from proxy.control.problems import Problem

BODY_WAIT: Final = 30.0
"""Seconds in which a body is here."""
SMALL: Final = 16 * 2**10
"""Bytes that are decoded at once; more are decoded in a thread."""


async def read_body(request: web.Request, operation: Operation) -> Any:
    """The body, None where the operation has none. Raises Problem 400, 408, 415, and 422 for what does not fit."""
    if operation.body is None:
        return None
    try:
        async with asyncio.timeout(BODY_WAIT):
            data = await request.read()
    except TimeoutError:
        raise Problem(408, f"the body was not here within {BODY_WAIT:g} s") from None
    if data and request.content_type != "application/json":
        raise Problem(415, "the body must be application/json")
    if len(data) > SMALL:
        return await asyncio.to_thread(decoded, data, operation)
    return decoded(data or b"{}", operation)


def decoded(data: bytes, operation: Operation) -> Any:
    """JSON as what the operation takes. Raises Problem 400 for what is no JSON, and `misfit` for another type."""
    assert operation.body is not None
    try:
        if operation.access == "hook" and len(data) > SMALL:
            # Others send these: what nobody asks for is passed over, which costs a twentieth of building it.
            return msgspec.json.decode(data, type=operation.body)
        # json reads NaN, which is no JSON, so that it can be refused as the weight that it is meant to be.
        body: Any = msgspec.convert(json.loads(data), operation.body)
        broken = next(_broken(msgspec.to_builtins(body), "$"), None)
    except (msgspec.ValidationError, OverflowError) as error:
        raise Problem(operation.misfit, str(error)) from None
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"the body is not JSON: {error}") from None
    if broken is not None:
        raise Problem(400, f"half a surrogate pair is no character - at `{broken}`")
    return body


def is_text(text: str) -> bool:
    """Can it be written as UTF-8? Half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _broken(value: Any, path: str) -> Iterator[str]:
    """Where text that cannot be written stands, in the form of msgspec's paths."""
    match value:
        case str():
            if not is_text(value):
                yield path
        case dict():
            for name, each in value.items():
                if not is_text(name):
                    yield path
                else:
                    yield from _broken(each, f"{path}.{name}")
        case list():
            for number, each in enumerate(value):
                yield from _broken(each, f"{path}[{number}]")
