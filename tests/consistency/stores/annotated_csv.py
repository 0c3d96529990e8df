"""InfluxDB 2.x as it is documented, in front of an InfluxDB 1.6.7 that keeps the points.

/api/v2/query understands the Flux that the store asks, one question or several with a yield each, and answers
annotated CSV: a table for each series and field, annotations before each new set of columns. /api/v2/write gives the
lines to InfluxDB 1.x as they are, and says its partial writes as InfluxDB 2.7 does.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import aiohttp
from aiohttp import web

from consistency.stores.influxql import quoted
from consistency.stores.table import format_time
from deploy.influxdb import InfluxDB, InfluxError
from proxy.demo.children import free_port
from tests.consistency.stores.events_api import Handler

TOKEN: Final = "token of the checker=="
ORG: Final = "our org"

_TEXT: Final = r'"((?:[^"\\]|\\.)*)"'
_ROWS: Final = re.compile(
    rf"from\(bucket: {_TEXT}\) \|> range\(start: time\(v: (-?\d+)\), stop: time\(v: (-?\d+)\)\)"
    r"(?: \|> filter\(fn: \(r\) => (.+?)\))?"
    r' \|> drop\(columns: \["_start", "_stop"\]\)(?: \|> yield\(name: "(\w+)"\))?',
    re.DOTALL,
)
_NAMES: Final = re.compile(
    rf'import "influxdata/influxdb/schema"\nschema\.measurements\(bucket: {_TEXT}, '
    r"start: time\(v: -?\d+\), stop: time\(v: -?\d+\)\)"
)
_EQUALS: Final = re.compile(rf"r\[{_TEXT}\] == {_TEXT}")
_KINDS: Final = {"float": "double", "integer": "long", "string": "string", "boolean": "boolean"}
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t"}


class Refusal(Exception):
    """An answer with a status, in InfluxDB's JSON."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Influx2:
    """Buckets are databases of `influx`. broken: answers every request instead, while it is set."""

    def __init__(self, influx: InfluxDB) -> None:
        self.influx = influx
        self.questions: list[str] = []
        self.writes: list[tuple[Mapping[str, str], bytes]] = []
        self.broken: Handler | None = None
        self.write_elsewhere = ""
        """Where what is written goes besides, as the client sent it; its refusal is ours."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen; again after a stop."""
        application = web.Application(middlewares=[self._guard], client_max_size=2**26)
        application.router.add_post("/api/v2/query", self._query)
        application.router.add_post("/api/v2/write", self._write)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        """Listen no more; connections are closed."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self.broken is not None:
            return await self.broken(request)
        try:
            if request.headers.get("Authorization") != f"Token {TOKEN}":
                raise Refusal(401, "unauthorized", "unauthorized access")
            if request.query.get("org") != ORG:
                raise Refusal(404, "not found", f'organization name "{request.query.get("org")}" not found')
            return await handler(request)
        except Refusal as refusal:
            return web.json_response({"code": refusal.code, "message": str(refusal)}, status=refusal.status)

    # writing

    async def _write(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.writes.append((dict(request.query), body))
        async with aiohttp.ClientSession() as session:
            if self.write_elsewhere:
                url = f"{self.write_elsewhere}{request.path_qs}"
                async with session.post(url, data=io.BytesIO(body), headers=request.headers) as answer:
                    if answer.status != 204:
                        return web.Response(status=answer.status, body=await answer.read())
            words = {"db": request.query["bucket"], "precision": request.query["precision"]}
            async with session.post(f"{self.influx.url}/write", params=words, data=io.BytesIO(body)) as answer:
                if answer.status == 204:
                    return web.Response(status=204)
                said = (await answer.json())["error"]
        if answer.status == 404:
            raise Refusal(404, "not found", f'bucket "{request.query["bucket"]}" not found')
        if "partial write" in said:
            raise Refusal(422, "unprocessable entity", f"failure writing points to database: {said}")
        raise Refusal(400, "invalid", said)

    # reading

    async def _query(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        question: str = asked["query"]
        assert set(asked["dialect"]["annotations"]) == {"datatype", "group", "default"}
        self.questions.append(question)
        answer = io.StringIO()
        try:
            if names := _NAMES.fullmatch(question):
                await self._names(_plain(names[1]), answer)
            else:
                for part in question.split('\nfrom(bucket: "'):
                    text = part if part.startswith("from(") else f'from(bucket: "{part}'
                    match = _ROWS.fullmatch(text)
                    if match is None:
                        raise Refusal(400, "invalid", f"compilation failed: error at @1:1-1:{len(text)}: {text}")
                    await self._rows(match, answer)
        except InfluxError as error:
            bucket = str(error).removeprefix("database not found: ")
            message = f'failed to initialize execute state: could not find bucket "{bucket}"'
            raise Refusal(404, "not found", message) from None
        return web.Response(body=answer.getvalue().encode(), headers={"Content-Type": "text/csv; charset=utf-8"})

    async def _names(self, bucket: str, answer: io.StringIO) -> None:
        found = await self.influx.query("SHOW MEASUREMENTS", bucket)
        table = Tables(answer, "_result", [("_value", "string", False)])
        for series in found:
            for (name,) in series["values"]:
                table.row(0, [name])

    async def _rows(self, match: re.Match[str], answer: io.StringIO) -> None:
        bucket, start, stop, condition, name = match.groups()
        wanted = None if condition is None else list(_terms(condition))
        number = -1
        tables: Tables | None = None
        shape: Any = None
        found = await self._series(_plain(bucket), int(start), int(stop))
        for field in sorted({field for kinds, _ in found for field in kinds}):
            # Field by field, so that what belongs to one point comes far apart, as it may.
            for kinds, series in found:
                tags = {tag: value for tag, value in sorted(series.get("tags", {}).items()) if value}
                labels = {"_measurement": series["name"], **tags}
                if field not in kinds or not (wanted is None or any(term.items() <= labels.items() for term in wanted)):
                    continue
                column = series["columns"].index(field)
                values = [(row[0], row[column]) for row in series["values"] if row[column] is not None]
                if not values:
                    continue
                number += 1
                if (kinds[field], tuple(tags)) != shape:
                    shape = (kinds[field], tuple(tags))
                    columns = [("_time", "dateTime:RFC3339", False), ("_value", _KINDS[kinds[field]], False)]
                    columns += [(label, "string", True) for label in ("_field", "_measurement", *tags)]
                    tables = Tables(answer, name or "_result", columns)
                assert tables is not None
                for at, value in values:
                    text = str(value).lower() if isinstance(value, bool) else str(value)
                    tables.row(number, [format_time(at, offset="Z"), text, field, series["name"], *tags.values()])

    async def _series(self, bucket: str, start: int, stop: int) -> list[tuple[dict[str, str], dict[str, Any]]]:
        """Types of fields and points, as InfluxDB 1.x has them."""
        if start >= stop:
            raise Refusal(400, "invalid", "cannot query an empty range")
        found = []
        for fields in await self.influx.query("SHOW FIELD KEYS", bucket):
            kinds = dict(fields["values"])
            chosen = ", ".join(f"{quoted(name)}::field" for name in kinds)
            where = f"time >= {start} AND time < {stop}"
            text = f"SELECT {chosen} FROM {quoted(fields['name'])} WHERE {where} GROUP BY *"
            for series in await self.influx.query(text, bucket):
                series["columns"] = ["time", *kinds]
                found.append((kinds, series))
        return found


class Tables:
    """Tables with the same columns. columns: label, type, and whether it is of the group key."""

    def __init__(self, answer: io.StringIO, result: str, columns: list[tuple[str, str, bool]]) -> None:
        if answer.tell():
            answer.write("\r\n")
        self._writer = csv.writer(answer)
        groups = [str(is_group).lower() for _, _, is_group in columns]
        self._writer.writerow(["#datatype", "string", "long", *(kind for _, kind, _ in columns)])
        self._writer.writerow(["#group", "false", "false", *groups])
        self._writer.writerow(["#default", result, *[""] * (len(columns) + 1)])
        self._writer.writerow(["", "result", "table", *(label for label, _, _ in columns)])

    def row(self, table: int, cells: list[str]) -> None:
        self._writer.writerow(["", "", table, *cells])


def _terms(condition: str) -> Iterator[dict[str, str]]:
    """Each of the terms of which one must hold. Only what the store asks is understood."""
    left = condition
    for term in re.finditer(rf"\((?:{_EQUALS.pattern}(?: and )?)+\)(?: or )?", condition):
        yield {_plain(found[1]): _plain(found[2]) for found in _EQUALS.finditer(term[0])}
        left = left.replace(term[0], "", 1)
    if left:
        raise Refusal(400, "invalid", f"compilation failed: {left}")


def _plain(text: str) -> str:
    if re.search(r"(?<!\\)\$\{", text):
        raise Refusal(400, "invalid", "an interpolation, which nobody meant")
    return re.sub(r"\\(.)", lambda match: _ESCAPED.get(match[1], match[1]), text, flags=re.DOTALL)
