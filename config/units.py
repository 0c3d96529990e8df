"""Durations, sizes, percentages, addresses and value sources: the small words of the configuration language."""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|kB|MB|GB)")
_SIZE_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_duration(value: Any) -> float:
    """Read `250ms`, `5s`, `1m`, `2h`, `7d` or `1h30m` as seconds.

    Raises ValueError for anything else; a bare number is refused because its unit would be a guess.
    """
    if not isinstance(value, str):
        raise ValueError(f"expected a duration with a unit, such as 5s or 250ms, not {value!r}")
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value.strip():
        raise ValueError(f"expected a duration such as 250ms, 5s, 1m, 2h or 7d, not {value!r}")
    return float(sum(float(number) * _DURATION_SECONDS[unit] for number, unit in parts))


def parse_size(value: Any) -> int:
    """Read `512B`, `64KiB`, `1MiB`, `2GiB` (or kB, MB, GB) as bytes; raises ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError(f"expected a size with a unit, such as 1MiB, not {value!r}")
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"expected a size such as 512B, 64KiB or 1MiB, not {value!r}")
    return int(float(match[1]) * _SIZE_BYTES[match[2]])


def parse_ratio(value: Any) -> float:
    """Read `1%` or `0.01` as a ratio 0-1; raises ValueError outside that range."""
    try:
        ratio = float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"expected a share such as 1% or 0.01, not {value!r}") from None
    if not 0 <= ratio <= 1:
        raise ValueError(f"expected a share between 0% and 100%, not {value!r}")
    return ratio


class Address(NamedTuple):
    """A TCP address: host name or IP address, and port 0-65535."""

    host: str
    port: int


def parse_address(text: str) -> Address:
    """Read `127.0.0.1:8080` or `[::1]:8080`; raises ValueError when host or port is missing."""
    parts = urlsplit(f"//{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port is None or parts.path or parts.query or parts.username:
        raise ValueError(f"expected an address such as 127.0.0.1:8080 or [::1]:8080, not {text!r}")
    return Address(host, port)


def _check_address(text: str) -> str:
    parse_address(text)
    return text


def _check_http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "http" or not parts.hostname or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise ValueError(f"expected http://host:port without a path, not {text!r}")
    if parts.username or parts.password:
        raise ValueError("a URL must not carry credentials: put them in a header")
    try:
        parts.port  # noqa: B018 - the property raises for a bad port
    except ValueError:
        raise ValueError(f"the port must be a number 1-65535 in {text!r}") from None
    return text


class Source(NamedTuple):
    """Where a value of an event is read: `kind` is json, header, cookie, query, path or client.

    `name` is the JSON pointer (RFC 6901), header, cookie, query or path parameter; empty for `client`.
    """

    kind: str
    name: str


SOURCE_KINDS = ("json", "header", "cookie", "query", "path", "client")


def parse_source(text: str) -> Source:
    """Read `json:/entity_id`, `header:X-Key`, `cookie:c`, `query:q`, `path:p` or `client`.

    Raises ValueError for an unknown kind, a missing name or a JSON pointer that does not start with `/`.
    """
    kind, _, name = text.partition(":")
    if kind == "client" and not name:
        return Source("client", "")
    if kind not in SOURCE_KINDS or kind == "client" or not name:
        raise ValueError(
            f"expected json:/pointer, header:NAME, cookie:NAME, query:NAME, path:NAME or client, not {text!r}"
        )
    if kind == "json" and not name.startswith("/"):
        raise ValueError(f"a JSON pointer starts with '/', as in json:/{name}")
    return Source(kind, name)


def _check_source(text: str) -> str:
    parse_source(text)
    return text


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$", "examples": ["5s"]}),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s*(B|KiB|MiB|GiB|kB|MB|GB)$", "examples": ["1MiB"]}),
]
Ratio = Annotated[
    float,
    BeforeValidator(parse_ratio),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": r"^\d+(\.\d+)?%$"}, {"type": "number"}], "examples": ["1%"]}),
]
Percent = Annotated[float, Field(ge=0, le=100)]
AddressText = Annotated[str, AfterValidator(_check_address)]
HttpUrl = Annotated[str, AfterValidator(_check_http_url)]
SourceText = Annotated[str, AfterValidator(_check_source)]
