"""Stores of the consistency checker: where each side keeps what it was given.

Credentials stand in environment variables (`${VAR}`) or in files of their own; `config.loader` refuses others.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from config.frozen import Frozen
from config.units import SomeTime, UnitError
from config.web import header_fields, one_of, web_url

NEAR: Final = 1.0
"""Seconds from its time within which an event of a JSON API is looked for that has no `event_url`."""


class _Store(Frozen):
    timeout: SomeTime = Field(10.0, description="of one question to it; slower: the check is inconclusive for now")


class _Columns(_Store):
    """What stores with columns have in common."""

    identity: tuple[str, ...] = Field(
        min_length=1, description="columns that name the event, the same values in both stores", examples=["[id]"]
    )
    time: str = Field(
        min_length=1, description="column with the event's time; an index on it keeps checks cheap", examples=["at"]
    )
    time_unit: Literal["s", "ms", "us", "ns"] = Field("s", description="unit of `time` where it holds numbers")
    columns: tuple[str, ...] = Field(
        (),
        description="further columns to compare; empty: all. A repair writes `identity`, `time` and these",
        examples=["[body, source]"],
    )

    @field_validator("identity", "columns")
    @classmethod
    def _once_each(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if names.count(name) > 1:
                raise UnitError(f"column {name} is named twice")
        return names


class _Table(_Columns):
    """What stores with tables have in common."""

    table: str = Field(min_length=1, description="table or view, with its schema if need be", examples=["event"])


class FilesStore(_Columns):
    """Files of one table that a database exported: Parquet, CSV, or JSON objects one to a line. They are read alone."""

    files: str = Field(
        min_length=1, description="a path, in which * stands for any characters", examples=["export/old-*.parquet"]
    )
    format: Literal["parquet", "csv", "ndjson"] = Field("parquet", description="what is in them")


class SqliteStore(_Table):
    """A table of an SQLite file."""

    file: str = Field(min_length=1, description="the database's file", examples=["old.db"])


class PostgresStore(_Table):
    """A table of a PostgreSQL database."""

    url: str = Field(
        min_length=1,
        repr=False,
        description="postgresql://user@host:port/database",
        examples=["postgresql://checker@127.0.0.1:5432/events"],
    )
    password: str | None = Field(
        None, min_length=1, repr=False, description="its user's, by ${NAME} alone", examples=["${OLD_PASSWORD}"]
    )
    password_file: str | None = Field(
        None, min_length=1, description="file that holds it", examples=["/run/secrets/old-password"]
    )

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str) -> str:
        wanted = UnitError("expected postgresql://user@host:port/database")
        try:
            parts = urlsplit(url)
            is_sound = parts.scheme in ("postgresql", "postgres") and parts.port != 0
        except ValueError:
            raise wanted from None
        if not is_sound:
            raise wanted
        words = parse_qs(parts.query, keep_blank_values=True)
        if ":" in parts.netloc.rpartition("@")[0] or "password" in words:
            raise UnitError("a URL must not carry a password: set password or password_file")
        return url

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        one_of("password", "password_file", (self.password, self.password_file))
        return self


class InfluxDB1Store(_Store):
    """A database of InfluxDB 1.x. A point's identity is its series and time."""

    url: str = Field(min_length=1, description="where it listens", examples=["http://127.0.0.1:8086"])
    database: str = Field(min_length=1, description="database", examples=["home"])
    retention_policy: str | None = Field(
        None, min_length=1, description="absent: the default one", examples=["autogen"]
    )
    measurements: tuple[str, ...] = Field((), description="measurements to compare; empty: all", examples=["[weather]"])
    precision: Literal["s", "ms", "us", "ns"] = Field("ns", description="precision that its writers send times with")
    username: str | None = Field(None, min_length=1, description="user", examples=["checker"])
    password: str | None = Field(
        None, min_length=1, repr=False, description="the user's, by ${NAME} alone", examples=["${OLD_PASSWORD}"]
    )
    password_file: str | None = Field(
        None, min_length=1, description="file that holds it", examples=["/run/secrets/old-password"]
    )

    @field_validator("url")
    @classmethod
    def _is_plain(cls, url: str) -> str:
        return web_url(url)

    @model_validator(mode="after")
    def _has_one_password(self) -> Self:
        one_of("password", "password_file", (self.password, self.password_file))
        if self.username is None and (self.password is not None or self.password_file is not None):
            raise UnitError("a password is given without a username")
        if self.username is not None and ":" in self.username:
            raise UnitError("username must have no colon, for it goes into a Basic header")
        return self


class InfluxDB2Store(_Store):
    """A bucket of InfluxDB 2.x. A point's identity is its series and time."""

    url: str = Field(min_length=1, description="where it listens", examples=["http://127.0.0.1:8086"])
    org: str = Field(min_length=1, description="organisation", examples=["home"])
    bucket: str = Field(min_length=1, description="bucket", examples=["events"])
    measurements: tuple[str, ...] = Field((), description="measurements to compare; empty: all", examples=["[weather]"])
    precision: Literal["s", "ms", "us", "ns"] = Field("ns", description="precision that its writers send times with")
    token: str | None = Field(
        None, min_length=1, repr=False, description="API token, by ${NAME} alone", examples=["${NEW_TOKEN}"]
    )
    token_file: str | None = Field(
        None, min_length=1, description="file that holds it", examples=["/run/secrets/new-token"]
    )

    @field_validator("url")
    @classmethod
    def _is_plain(cls, url: str) -> str:
        return web_url(url)

    @model_validator(mode="after")
    def _has_one_token(self) -> Self:
        one_of("token", "token_file", (self.token, self.token_file))
        return self


class HttpStore(_Store):
    """A JSON API over HTTP that lists events of a time span."""

    url: str = Field(
        min_length=1,
        description="of a list of events: {start} and {end} stand for the span, {cursor} for the place to go on",
        examples=["https://events.internal/api/events?from={start}&to={end}&after={cursor}"],
    )
    event_url: str | None = Field(
        None,
        min_length=1,
        description="of one event by its {identity}, or of a list of those that bear it. 404: it is not there. Absent: "
        "it is looked for in the list of `url`, within a second of its time",
        examples=["https://events.internal/api/events/{identity}"],
    )
    write_url: str | None = Field(
        None,
        min_length=1,
        description="takes one event by `write_method`. 2xx: written, 409: it was there. Absent: it is not written to",
        examples=["https://events.internal/api/events/{identity}"],
    )
    write_method: Literal["POST", "PUT"] = Field("POST", description="how it takes one")
    time_format: Literal["iso", "s", "ms", "us", "ns"] = Field(
        "iso", description="how {start} and {end} are written, and what events' times are in that are numbers"
    )
    events: str = Field("", description="JSON pointer to the list in an answer", examples=["/data/events"])
    identity: tuple[str, ...] = Field(
        min_length=1, description="JSON pointers to what names the event", examples=["[/id]"]
    )
    time: str = Field(description="JSON pointer to the event's time", examples=["/time_fired"])
    fields: str = Field(
        "", description="JSON pointer to what is compared; empty: the whole event", examples=["/attributes"]
    )
    cursor: str | None = Field(
        None,
        description="JSON pointer to the place to go on, in an answer; null or absent there: the end. Without it pages "
        "go on by time, which needs them in order of time",
        examples=["/data/next"],
    )
    page_size: int = Field(
        1000, ge=1, le=100_000, description="{limit} in `url`; without `cursor`, a shorter page is the last one"
    )
    headers: dict[str, str] = Field(
        default_factory=dict, repr=False, description="of every request", examples=['{X-Tenant: "7"}']
    )
    authorization: str | None = Field(
        None,
        min_length=1,
        repr=False,
        description="Authorization of every request, with ${NAME}",
        examples=["Bearer ${NEW_TOKEN}"],
    )
    authorization_file: str | None = Field(
        None, min_length=1, description="file that holds it", examples=["/run/secrets/new-authorization"]
    )

    @field_validator("url")
    @classmethod
    def _is_list_url(cls, url: str) -> str:
        return web_url(url, ("start", "end", "cursor", "limit"), ("start", "end"))

    @field_validator("event_url", "write_url")
    @classmethod
    def _is_event_url(cls, url: str | None, info: ValidationInfo) -> str | None:
        return url and web_url(url, ("identity",), ("identity",) if info.field_name == "event_url" else ())

    @field_validator("identity", "time", "fields", "events", "cursor")
    @classmethod
    def _is_pointer(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for pointer in (value,) if isinstance(value, str) else value or ():
            if re.fullmatch(r"(/([^~/]|~[01])*)*", pointer) is None:
                raise UnitError(f"{pointer!r} is not a JSON pointer, such as /data/id")
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        return header_fields(headers)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        one_of("authorization", "authorization_file", (self.authorization, self.authorization_file))
        if (self.cursor is not None) != ("{cursor}" in self.url):
            raise UnitError("cursor and {cursor} in url belong together: one says where it stands, one where it goes")
        return self


class PluginStore(_Store):
    """A kind of store that another package brings, under the entry point group `crossfade.stores`."""

    plugin: str = Field(min_length=1, description="name of the entry point", examples=["clickhouse"])
    options: dict[str, Any] = Field(
        default_factory=dict, description="whatever that kind of store needs", examples=["{host: 10.0.0.5}"]
    )
