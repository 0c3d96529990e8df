"""From settings to stores: the kinds that are built in, and those that other packages bring."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Final

from config.consistency import AnyStore
from config.stores import (
    FilesStore,
    HttpStore,
    InfluxDB1Store,
    InfluxDB2Store,
    PluginStore,
    PostgresStore,
    SqliteStore,
)
from consistency.stores.errors import StoreError, StoreMissing
from consistency.stores.protocol import Store

GROUP: Final = "crossfade.stores"
"""Entry points of further kinds: each is called with the store's name and its `options` and gives a Store."""


def store_of(name: str, settings: AnyStore) -> Store:
    """A store that is not open yet. name: what it is called in texts. Raises StoreMissing where a plugin is
    not there or makes none.

    Each kind is imported when it is needed: nobody waits for the drivers of others.
    """
    match settings:
        case SqliteStore():
            from consistency.stores.sqlite import SqliteStore as Sqlite

            return Sqlite(name, settings)
        case PostgresStore():
            from consistency.stores.postgres import PostgresStore as Postgres

            return Postgres(name, settings)
        case InfluxDB1Store():
            from consistency.stores.influxdb1 import InfluxDB1Store as InfluxDB1

            return InfluxDB1(name, settings)
        case InfluxDB2Store():
            from consistency.stores.influxdb2 import InfluxDB2Store as InfluxDB2

            return InfluxDB2(name, settings)
        case HttpStore():
            from consistency.stores.http_json import HttpStore as Http

            return Http(name, settings)
        case FilesStore():
            from consistency.stores.files import FilesStore as Files

            return Files(name, settings)
        case PluginStore():
            return _plugin(name, settings)


def _plugin(name: str, settings: PluginStore) -> Store:
    for found in entry_points(group=GROUP, name=settings.plugin):
        try:
            store: Store = found.load()(name, dict(settings.options))
        except StoreError:
            raise
        except Exception as error:  # whatever a stranger's code raises
            said = f"the package that brings {settings.plugin!r} does not make one: {type(error).__name__}: {error}"
            raise StoreMissing(name, said) from error
        return store
    known = ", ".join(sorted(each.name for each in entry_points(group=GROUP))) or "none"
    raise StoreMissing(name, f"no installed package brings stores of the kind {settings.plugin!r}; there are: {known}")
