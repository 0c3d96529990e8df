"""Addresses of the web that we ask or tell, and what goes with every request to them."""

from __future__ import annotations

import re
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from config.frozen import Frozen
from config.units import UnitError

_PLACE = re.compile(r"\{([^{}]*)\}")


def web_url(
    url: str, places: tuple[str, ...] = (), needed: tuple[str, ...] = (), *, may_have_query: bool = False
) -> str:
    """Checked: http(s), without a credential. places: what may stand in braces, in a query, too; needed: what must.
    Raises UnitError.
    """
    if not url.isascii() or not url.isprintable() or " " in url:
        raise UnitError("must be printable ASCII without spaces; percent-encode other characters")
    try:
        parts = urlsplit(_PLACE.sub("x", url))
        is_sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise UnitError("is no address") from None
    if not is_sound:
        raise UnitError("must be http://host:port or https://host:port, with a path or without")
    if "@" in parts.netloc:
        raise UnitError("must hold no user and password: there are settings of their own for them")
    may_have_query = may_have_query or bool(places)
    if parts.fragment or (parts.query and not may_have_query):
        raise UnitError("must have no fragment" if may_have_query else "must have neither a query nor a fragment")
    found = _PLACE.findall(url)
    for name in found:
        if name not in places:
            known = ", ".join(f"{{{each}}}" for each in places) or "none"
            raise UnitError(f"{{{name}}} stands for nothing here; there are: {known}")
    for name in needed:
        if name not in found:
            raise UnitError(f"needs {{{name}}}")
    return url


def one_of(first: str, second: str, values: tuple[str | None, str | None]) -> None:
    """Raises UnitError when both are given. first, second: their names."""
    if None not in values:
        raise UnitError(f"both {first} and {second} are given: keep one")


def header_fields(headers: dict[str, str]) -> dict[str, str]:
    """Checked: names and values as HTTP has them, and no credential. Raises UnitError."""
    for name, value in headers.items():
        if re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) is None or not value.isprintable():
            raise UnitError(f"{name!r} is not the name of a header, or its value is not one line of text")
        if name.lower() == "authorization":
            raise UnitError("Authorization has a setting of its own, authorization")
    return headers


class WebAddress(Frozen):
    """A web address that is asked or told something, and what every request to it carries."""

    url: str = Field(min_length=1, description="http:// or https://", examples=["https://ops.example.com/hook"])
    headers: dict[str, str] = Field(
        default_factory=dict, repr=False, description="of every request", examples=['{X-Tenant: "7"}']
    )
    authorization: str | None = Field(
        None, min_length=1, repr=False, description="Authorization of every request", examples=["Bearer ${HOOK_TOKEN}"]
    )
    authorization_file: str | None = Field(
        None, min_length=1, description="file that holds it", examples=["/run/secrets/hook-authorization"]
    )

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        return web_url(url, may_have_query=True)

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        return header_fields(headers)

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        one_of("authorization", "authorization_file", (self.authorization, self.authorization_file))
        return self
