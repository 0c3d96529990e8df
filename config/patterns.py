"""What a route matches, and names: the words that are patterns rather than quantities."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, Field

from config.units import UnitError, Written

NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,62}$"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
# pchar of RFC 3986 section 3.3 without '*', which is ours at the end of a prefix.
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()+,;=:@-]|%[0-9A-Fa-f]{2})*")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_OURS = (
    "connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
    "upgrade", "via", "x-event-id",
)  # fmt: skip
_VALUE = re.compile(r"(?:[\x21-\x7e\xa0-\xff](?:[\t\x20-\x7e\xa0-\xff]*[\x21-\x7e\xa0-\xff])?)?")
_METHOD = re.compile(r"[A-Z][A-Z0-9-]{0,31}")


def _check_name(text: str) -> str:
    if _NAME.fullmatch(text):
        return text
    plain = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-")[:63]
    raise UnitError(
        f"a name is a-z, 0-9, '-' or '_', starts with a letter and has at most 63 characters, unlike {text!r}",
        plain if _NAME.fullmatch(plain) else "",
    )


def path_parameters(path: str) -> tuple[str, ...]:
    """The names of the `{parameters}` of a path pattern, in order."""
    return tuple(_PARAMETER.findall(path))


def _check_path(path: str) -> str:
    """Exact `/a/b`, parameters `/a/{id}` (whole segments) or prefix `/a/*` (at the end alone)."""
    if not path.startswith("/"):
        raise UnitError(f"a path starts with '/', unlike {path!r}", f"/{path}")
    if "?" in path or "#" in path:
        raise UnitError(f"a path is matched without its query, unlike {path!r}", re.split(r"[?#]", path)[0])
    segments = path[1:].split("/")
    if segments[-1] == "*":
        segments.pop()
    for segment in segments:
        if "*" in segment:
            raise UnitError(f"'*' can only be the last segment, as in /a/*, unlike {path!r}")
        if ("{" in segment or "}" in segment) and not _PARAMETER.fullmatch(segment):
            raise UnitError(f"a parameter is a whole segment such as {{id}}, unlike {segment!r}")
        if "{" not in segment and not _SEGMENT.fullmatch(segment):
            raise UnitError(f"{segment!r} has a character that must be percent-encoded in a path")
    names = path_parameters(path)
    if len(set(names)) != len(names):
        raise UnitError(f"a parameter occurs twice in {path!r}")
    return path


def covers(one: str, two: str) -> bool:
    """Whether every path that `two` matches is matched by `one` as well."""
    wide, narrow = one.split("/"), two.split("/")
    if wide[-1] == "*":
        # /a/* takes /a itself too.
        wide.pop()
        narrow = narrow[: len(wide)] if narrow[-1] != "*" else narrow[:-1][: len(wide)]
    elif narrow[-1] == "*":
        return False
    return len(wide) == len(narrow) and all(
        a == b or (_PARAMETER.fullmatch(a) is not None and b != "") for a, b in zip(wide, narrow, strict=True)
    )


def _check_host(text: str) -> str:
    name, _, port = text.rpartition(":")
    if name and port.isdigit() and not name.endswith(":"):
        raise UnitError(f"a host is matched without its port, unlike {text!r}", name)
    if text.startswith("[") and text.endswith("]"):
        try:
            ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            raise UnitError(f"{text!r} is not an IPv6 address in brackets") from None
    elif not _HOST.fullmatch(text):
        raise UnitError(f"expected a host name such as events.example.com, not {text!r}")
    return text.lower()


def _check_method(text: str) -> str:
    if _METHOD.fullmatch(text) and text != "CONNECT":
        return text
    upper = text.upper()
    hint = upper if _METHOD.fullmatch(upper) and upper != "CONNECT" else ""
    raise UnitError(f"expected an HTTP method in capitals such as POST, not {text!r}", hint)


Name = Annotated[
    str, AfterValidator(_check_name), Field(json_schema_extra={"pattern": NAME_PATTERN}), Written("name", str)
]
PathPattern = Annotated[
    str, AfterValidator(_check_path), Field(json_schema_extra={"pattern": "^/"}), Written("path", str)
]


def _check_header(text: str) -> str:
    if not _HEADER.fullmatch(text):
        raise UnitError(f"a header's name is a token (RFC 9110, 5.6.2) of at most 64 characters, unlike {text!r}")
    if text.lower() in _OURS or text.lower().startswith(("x-crossfade-", "x-forwarded-")):
        raise UnitError(f"{text} is the proxy's own; it is not yours to set or remove")
    return text


def _check_value(text: str) -> str:
    if not _VALUE.fullmatch(text):
        raise UnitError("a header's value is printable, in Latin-1, without blanks at its ends")
    return text


def _check_prefix(text: str) -> str:
    if not text.startswith("/") or not all(_SEGMENT.fullmatch(part) for part in text.split("/")):
        raise UnitError(f"a path's beginning is such as /api/v1, unlike {text!r}", "" if "/" in text else f"/{text}")
    return text


HeaderValue = Annotated[str, AfterValidator(_check_value), Written("header value", str)]
PathPrefix = Annotated[str, AfterValidator(_check_prefix), Written("path", str)]
HeaderName = Annotated[str, AfterValidator(_check_header), Written("header name", str)]
HostName = Annotated[str, AfterValidator(_check_host), Written("host name", str)]
Method = Annotated[
    str, AfterValidator(_check_method), Field(json_schema_extra={"pattern": "^[A-Z]"}), Written("method", str)
]
