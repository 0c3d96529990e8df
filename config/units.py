"""Durations, sizes, percentages, addresses and value sources: the small words of the configuration language.

Each word has a reader that raises `UnitError`, and a type for the model that carries its JSON Schema.
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h|d)", re.ASCII)
_DURATION_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MAX_DURATION = 3650 * 86400.0
"""Seconds; ten years. More is a slip of the pen, and clocks and sockets would refuse it later."""

_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*(B|KiB|MiB|GiB|kB|MB|GB)", re.ASCII)
_SIZE_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
MAX_SIZE = 2**50

_HOST = r"(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])"
_ADDRESS = re.compile(rf"{_HOST}:(?P<port>\d{{1,5}})", re.ASCII)
_URL = re.compile(rf"(?P<scheme>[a-z]+(?:\+[a-z]+)?)://{_HOST}(?::(?P<port>\d{{1,5}}))?(?P<rest>[/?#]\S*)?", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class UnitError(ValueError):
    """A word of the configuration that cannot be read. suggestion: what was probably meant, or empty."""

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.suggestion = suggestion


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """The known word that `word` was probably meant to be, or empty."""
    matches = difflib.get_close_matches(word.lower(), [k.lower() for k in known], n=1)
    return next((k for k in known if matches and k.lower() == matches[0]), "")


def parse_duration(value: Any) -> float:
    """Read `250ms`, `5s`, `1m`, `2h`, `7d` or `1h30m` as seconds.

    Raises UnitError for anything else; a bare number is refused because its unit would be a guess.
    """
    if not isinstance(value, str):
        raise _without_unit(value, "s")
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise UnitError(f"expected a duration such as 250ms, 5s, 1m, 2h or 7d, not {value!r}")
    seconds = sum(float(number) * _DURATION_SECONDS[unit] for number, unit in parts)
    if seconds > MAX_DURATION:
        raise UnitError(f"expected a duration of at most 3650d, not {value!r}")
    return float(seconds)


def _without_unit(value: Any, unit: str) -> UnitError:
    """What is said of a number without its unit. unit: the one that is probably meant; none that would be refused."""
    suggestion = f"{value}{unit}" if _is_number(value) else ""
    if not _DURATION.fullmatch(suggestion) or _DURATION_SECONDS[unit] * value > MAX_DURATION:
        suggestion = ""
    return UnitError(f"expected a duration with a unit, not {value!r}", suggestion)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def format_duration(seconds: float) -> str:
    """Write seconds in the largest unit that leaves a whole number; the reverse of `parse_duration`."""
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _DURATION_SECONDS[unit] == 0:
            return f"{seconds / _DURATION_SECONDS[unit]:.0f}{unit}"
    if not seconds:
        return "0s"
    return f"{seconds:.9f}".rstrip("0") + "s" if seconds > 1 else f"{seconds * 1000:.6f}".rstrip("0").rstrip(".") + "ms"


def parse_size(value: Any) -> int:
    """Read `512B`, `64KiB`, `1MiB`, `2GiB` (or kB, MB, GB) as bytes; raises UnitError for anything else."""
    if not isinstance(value, str):
        whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SIZE
        raise UnitError(f"expected a size with a unit, not {value!r}", f"{value}B" if whole else "")
    match = _SIZE.fullmatch(value)
    if match is None:
        raise UnitError(f"expected a size such as 512B, 64KiB or 1MiB, not {value!r}")
    size = float(match[1]) * _SIZE_BYTES[match[2]] if "." in match[1] else int(match[1]) * _SIZE_BYTES[match[2]]
    if size > MAX_SIZE:
        raise UnitError(f"expected a size of at most {format_size(MAX_SIZE)}, not {value!r}")
    return int(size)


def format_size(size: int) -> str:
    """Write bytes in the largest binary unit that leaves a whole number; the reverse of `parse_size`."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _SIZE_BYTES[unit] == 0:
            return f"{size // _SIZE_BYTES[unit]}{unit}"
    return f"{size}B"


def parse_ratio(value: Any) -> float:
    """Read `1%` or `0.01` as a ratio 0-1; raises UnitError outside that range."""
    try:
        if isinstance(value, bool):
            raise TypeError
        is_percent = isinstance(value, str) and value.endswith("%")
        ratio = round(float(value[:-1]) / 100, 12) if is_percent else float(value)  # 99.9% is 0.999
    except (TypeError, ValueError):
        raise UnitError(f"expected a share such as 1% or 0.01, not {value!r}") from None
    if not 0 <= ratio <= 1:
        hint = f"{value}%" if not isinstance(value, str) and 1 < ratio <= 100 else ""
        raise UnitError(f"expected a share between 0% and 100%, not {value!r}", hint)
    return ratio


def format_ratio(ratio: float) -> str:
    """Write a ratio 0-1 as percent; the reverse of `parse_ratio` up to rounding."""
    return f"{round(ratio * 100, 10):g}%"


def _check_percent(value: float) -> float:
    # 10,000 buckets: a third decimal could not be kept.
    if math.isfinite(value) and round(value, 2) != value:
        raise UnitError(f"a weight has at most two decimals, not {value!r}", f"{round(value, 2):g}")
    return value


class Address(NamedTuple):
    """A TCP address: host name or IP address (without brackets), and port 0-65535."""

    host: str
    port: int

    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def is_any(self) -> bool:
        """Whether it stands for all addresses of this machine."""
        return self.host in ("0.0.0.0", "::")  # noqa: S104 - recognised, not bound


def _bare_host(text: str) -> str:
    """The lower-case host without brackets; raises ValueError for brackets around something else than IPv6."""
    if not text.startswith("["):
        return text.lower()
    return str(ipaddress.IPv6Address(text[1:-1]))


def parse_address(text: str) -> Address:
    """Read `127.0.0.1:8080` or `[::1]:8080`; raises UnitError when host or port is missing."""
    match = _ADDRESS.fullmatch(text)
    try:
        if match is not None and int(match["port"]) <= 65535:
            return Address(_bare_host(match["host"]), int(match["port"]))
    except ValueError:
        match = None
    bare_port = text.removeprefix(":")
    hint = f"127.0.0.1:{bare_port}" if re.fullmatch(r"[0-9]{1,5}", bare_port) else ""
    raise UnitError(f"expected an address such as 127.0.0.1:8080 or [::1]:8080, not {text!r}", hint)


def _check_address(text: str) -> str:
    parse_address(text)
    return text


def _check_network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        try:
            hint = str(ipaddress.ip_network(text, strict=False))
        except ValueError:
            hint = ""
        raise UnitError(f"expected a network such as 10.0.0.0/8, or an IP address, not {text!r}", hint) from None
    return text


def _check_address_or_off(text: str) -> str:
    return text if text == "off" else _check_address(text)


class BackendUrl(NamedTuple):
    """Where a backend listens. scheme: http or https; is_srv: `host` names SRV records, which give the ports."""

    scheme: str
    host: str
    port: int
    is_srv: bool = False

    @property
    def is_literal(self) -> bool:
        """Whether it is an address already, so that no name has to be looked up."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def is_tls(self) -> bool:
        """Whether TLS is spoken there."""
        return self.scheme == "https"

    @property
    def address(self) -> Address:
        """Host and port."""
        return Address(self.host, self.port)

    @property
    def authority(self) -> str:
        """What the Host header of a request to it says: without a port that is the scheme's own or not known."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (0, _PORTS[self.scheme]) else f"{host}:{self.port}"


_PORTS = {"http": 80, "https": 443}


def parse_backend_url(text: str) -> BackendUrl:
    """Read `http://host:port` or `https://host:port` (port 80 or 443 when it has none), or `srv+http://name`.

    Raises UnitError for anything else. srv+http and srv+https name SRV records (RFC 2782), which give the ports.
    """
    if "@" in text:
        raise UnitError("a URL must not carry credentials: they would show in logs and status")
    match = _URL.fullmatch(text)
    if match is None:
        hint = f"http://{text}" if _ADDRESS.fullmatch(text) else ""
        raise UnitError(f"expected http://host:port, not {text!r}", hint)
    is_srv, scheme = match["scheme"].startswith("srv+"), match["scheme"].removeprefix("srv+")
    if is_srv and match["port"]:
        raise UnitError(f"SRV records give the ports: leave out :{match['port']}")
    if scheme not in _PORTS:
        raise UnitError(f"expected http://host:port or https://host:port; {scheme} is not spoken with a backend")
    port = int(match["port"] or _PORTS[scheme])
    if not 1 <= port <= 65535:
        raise UnitError(f"the port must be a number from 1 to 65535, not {port}")
    if match["rest"] not in (None, "/"):
        raise UnitError(f"expected http://host:port without a path, not {text!r}", text[: match.start("rest")])
    try:
        return BackendUrl(scheme, _bare_host(match["host"]), 0 if is_srv else port, is_srv)
    except ValueError:
        raise UnitError(f"{match['host']} is not an IPv6 address") from None


def _check_backend_url(text: str) -> str:
    parse_backend_url(text)
    return text


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _check_health_url(text: str) -> str:
    match = _URL.fullmatch(text)
    tcp = match is not None and match["scheme"] == "tcp" and match["port"] and not match["rest"]
    web = match is not None and match["scheme"] in _PORTS
    if match is None or not (tcp or web) or not 1 <= int(match["port"] or 80) <= 65535:
        raise UnitError("expected http://host:port/path, https://host:port/path or tcp://host:port")
    return text


class Source(NamedTuple):
    """Where a value of an event is read: `kind` is json, line, header, cookie, query, path or client.

    `name` is the JSON pointer (RFC 6901), header, cookie, query or path parameter; `series`, `measurement` or
    `tag.NAME` for `line`, InfluxDB's line protocol; empty for `client`.
    """

    kind: str
    name: str


SOURCE_KINDS = ("json", "line", "header", "cookie", "query", "path", "client")
BODY_KINDS = ("json", "line")
"""Those that read the body."""
_LINE_PARTS = ("series", "measurement", "tag.NAME")


def parse_source(text: str) -> Source:
    """Read `json:/entity_id`, `line:series`, `header:X-Key`, `cookie:c`, `query:q`, `path:p` or `client`.

    Raises UnitError for an unknown kind, a missing name, a JSON pointer that does not start with `/` or has
    a bad escape (RFC 6901 section 3), an unknown part of the line protocol, or a header or cookie name that is
    no token (RFC 9110 section 5.6.2).
    """
    kind, colon, name = text.partition(":")
    if kind == "client" and not colon:
        return Source("client", "")
    if kind not in SOURCE_KINDS or kind == "client" or not name:
        meant = "client" if kind == "client" else nearest(kind, SOURCE_KINDS)
        hint = meant if meant == "client" else f"{meant}:{name}" if meant and name else ""
        raise UnitError(
            "expected json:/pointer, line:PART, header:NAME, cookie:NAME, query:NAME, path:NAME or client, "
            f"not {text!r}",
            hint,
        )
    if kind == "json" and not name.startswith("/"):
        raise UnitError(f"a JSON pointer starts with '/', unlike {name!r}", f"json:/{name}")
    if kind == "json" and re.search(r"~(?![01])", name):
        raise UnitError(f"in a JSON pointer '~' is written ~0 and '/' in a name ~1, unlike in {name!r}")
    if kind == "line" and name not in _LINE_PARTS[:2] and not (name.startswith("tag.") and len(name) > 4):
        meant = nearest(name, _LINE_PARTS)
        raise UnitError(
            f"expected line:series, line:measurement or line:tag.NAME, not {text!r}", f"line:{meant}" if meant else ""
        )
    if kind in ("header", "cookie") and not _TOKEN.fullmatch(name):
        raise UnitError(f"{name!r} cannot be the name of a {kind}")
    return Source(kind, name)


def _check_source(text: str) -> str:
    parse_source(text)
    return text


_Number = TypeVar("_Number", int, float)


def _more_than_nothing(value: _Number) -> _Number:
    if not value > 0:
        raise UnitError("must be more than 0")
    return value


def _is_something(value: Any) -> Any:
    """A number that is not more than 0 is refused for that, for with a unit it would be refused as well."""
    return _more_than_nothing(value) if _is_number(value) else value


def _short(value: Any) -> Any:
    """Of times that are mostly below a second, a whole number is probably meant in milliseconds."""
    if _is_number(value) and value >= 1:
        raise _without_unit(value, "ms")
    return value


class Written(NamedTuple):
    """How a loaded value is written in YAML; read by the schema and the reference page."""

    word: str
    format: Callable[[Any], str]


DURATION_PATTERN = r"^(\d+(\.\d+)?(ms|s|m|h|d))+$"
SIZE_PATTERN = r"^\d+(\.\d+)?\s*(B|KiB|MiB|GiB|kB|MB|GB)$"

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}),
    Written("duration", format_duration),
]
# A wait of nothing is a busy loop or an instant timeout, so most durations must be more.
SomeTime = Annotated[Duration, AfterValidator(_more_than_nothing), BeforeValidator(_is_something)]
ShortDuration = Annotated[Duration, BeforeValidator(_short)]
SomeShortTime = Annotated[SomeTime, BeforeValidator(_short)]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN}),
    Written("size", format_size),
]
SomeBytes = Annotated[Size, AfterValidator(_more_than_nothing), BeforeValidator(_is_something)]
Ratio = Annotated[
    float,
    BeforeValidator(parse_ratio),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": r"^\d+(\.\d+)?%$"}, {"type": "number", "maximum": 1}]}),
    Written("share", format_ratio),
]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False), AfterValidator(_check_percent)]
NetworkText = Annotated[str, AfterValidator(_check_network), Written("network", str)]
AddressText = Annotated[str, AfterValidator(_check_address), Written("address", str)]
AddressOrOff = Annotated[str, AfterValidator(_check_address_or_off), Written("address or off", str)]
UrlText = Annotated[str, AfterValidator(_check_backend_url), Written("URL", str)]
Urls = Annotated[
    tuple[UrlText, ...], Field(min_length=1), BeforeValidator(_as_list), Written("URL or list of URL", ", ".join)
]
HealthUrl = Annotated[str, AfterValidator(_check_health_url), Written("URL", str)]
SourceText = Annotated[str, AfterValidator(_check_source), Written("source", str)]
