"""What the consistency checker compares: for a route, where each side keeps its events and how they are compared."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from config.frozen import Frozen
from config.patterns import Name
from config.probe import Probe
from config.rules import FieldRule
from config.stores import (
    FilesStore,
    HttpStore,
    InfluxDB1Store,
    InfluxDB2Store,
    PluginStore,
    PostgresStore,
    SqliteStore,
)
from config.units import Duration, SomeBytes, SomeTime

MEMORY: Final = 512 * 2**20
LEAST_MEMORY: Final = 64 * 2**20
"""Bytes."""

AnyStore = SqliteStore | PostgresStore | InfluxDB1Store | InfluxDB2Store | HttpStore | FilesStore | PluginStore


class Store(Frozen):
    """Where a side keeps its events: one of these kinds."""

    sqlite: SqliteStore | None = Field(
        None, description="an SQLite file", examples=["{file: old.db, table: event, identity: [id], time: at}"]
    )
    postgres: PostgresStore | None = Field(
        None,
        description="a PostgreSQL database",
        examples=['{url: "postgresql://checker@10.0.0.5/events", table: event, identity: [id], time: at}'],
    )
    influxdb1: InfluxDB1Store | None = Field(
        None, description="InfluxDB 1.x", examples=['{url: "http://127.0.0.1:8086", database: home}']
    )
    influxdb2: InfluxDB2Store | None = Field(
        None,
        description="InfluxDB 2.x",
        examples=['{url: "http://127.0.0.1:8086", org: home, bucket: events, token_file: token}'],
    )
    http: HttpStore | None = Field(
        None,
        description="a JSON API",
        examples=['{url: "http://10.0.0.5/events?from={start}&to={end}", identity: [/id], time: /at}'],
    )
    files: FilesStore | None = Field(
        None,
        description="files that a database exported",
        examples=['{files: "export/old-*.parquet", identity: [id], time: at}'],
    )
    plugin: PluginStore | None = Field(
        None, description="a kind that another package brings", examples=["{plugin: clickhouse}"]
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = self.model_fields_set
        if len(given) != 1 or self.settings is None:
            kinds = ", ".join(type(self).model_fields)
            named = " and ".join(sorted(given)) or "none"
            raise ValueError(f"a store is of one kind ({kinds}), and {named} is given")
        return self

    @property
    def kind(self) -> str:
        """Which of them it is."""
        (kind,) = self.model_fields_set
        return kind

    @property
    def settings(self) -> AnyStore:
        """Of the kind that it is."""
        found: AnyStore = getattr(self, self.kind)
        return found


class Check(Frozen):
    """Both stores of a route, or of several that keep their events together, and how what they hold is compared."""

    routes: tuple[Name, ...] = Field(
        min_length=1, description="names of the routes whose events these stores keep", examples=["[events]"]
    )
    old: Store = Field(
        description="where old keeps its events",
        examples=["{sqlite: {file: old.db, table: event, identity: [id], time: at}}"],
    )
    new: Store = Field(
        description="where new keeps them",
        examples=["{sqlite: {file: new.db, table: event, identity: [id], time: at}}"],
    )
    identity: Literal["event-id", "identities", "content", "none"] = Field(
        "event-id",
        description="what names an event in the stores: its id, or its route's `identities`. none: the ledger cannot "
        "name what they hold, as for points of InfluxDB, and they are compared with each other alone. content: so they "
        "are, and nothing names their rows: those of the same `identity`, time and content are counted. A suspect is "
        "looked for among all rows of its `identity`, which should be few (a reading, not a sensor)",
    )
    window: SomeTime = Field(60.0, description="span of event time that is judged at once")
    memory: SomeBytes = Field(
        MEMORY,
        ge=LEAST_MEMORY,
        description="what comparing may take, roughly; what a window, or files, have beyond it is spilled to disk",
    )
    rules: tuple[FieldRule, ...] = Field(
        (),
        description="how fields are compared; exact without one",
        examples=["[{path: /attributes, compare: ignore}]"],
    )
    json_fields: tuple[str, ...] = Field(
        (), description="columns or fields that hold a JSON document as text: rules go on into it", examples=["[body]"]
    )
    only_new: Literal["ignore", "compare"] = Field(
        "ignore", description="fields that new has alone and no rule is about: ignore counts them as enrichment"
    )
    time: Literal["compare", "ignore"] = Field(
        "compare", description="times of the same event in both stores; ignore where one has a time of its own"
    )
    time_within: Duration = Field(0.0, description="how far these times may lie apart", examples=["1ms"])
    probe: Probe | None = Field(
        None,
        description="a marked event that shows whether the way into both stores is open",
        examples=['{path: /events, body: \'{"id": "{{id}}"}\'}'],
    )

    @property
    def is_two_way(self) -> bool:
        """Whether the ledger cannot name what these stores hold."""
        return self.identity in ("none", "content")

    @property
    def is_live(self) -> bool:
        """Whether these stores can be checked while events come in: what was exported has none of the present."""
        return not any(isinstance(each.settings, FilesStore) for each in (self.old, self.new))

    @field_validator("new")
    @classmethod
    def _is_another(cls, new: Store, info: ValidationInfo) -> Store:
        if new == info.data.get("old"):
            raise ValueError("is the same store as `old`")
        return new

    @field_validator("rules")
    @classmethod
    def _sets_are_whole(cls, rules: tuple[FieldRule, ...]) -> tuple[FieldRule, ...]:
        for number, rule in enumerate(rules):
            for earlier in rules[:number]:
                if rule.compare == "set" and _is_part(earlier.path, rule.path):
                    raise ValueError(f"rule {earlier.path} is about a part of {rule.path}, which is compared as a set")
        return rules


def _is_part(path: str, whole: str) -> bool:
    """Whether a path may lie beneath another one."""
    parts, wholes = path.split("/"), whole.split("/")
    return len(parts) > len(wholes) and all(a == b or "*" in (a, b) for a, b in zip(parts, wholes, strict=False))
