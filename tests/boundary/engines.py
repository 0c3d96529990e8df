"""Servers that stand behind the proxy and write down what they read: each is started here, from its Debian package.

proxy --> Plain | Aiohttp | Nginx (its access log) | HAProxy --> Plain | Apache (and its access log) --> Plain
"""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
from pathlib import Path
from typing import Final

import orjson
from aiohttp import web

from deploy.packages import program
from proxy.demo.children import Child, free_port
from tests.harness.recorder import Recorded, Recorder

_START: Final = 20.0


class Plain:
    """A socket and the strictest reader. port: where it listens.

    answers_itself: requests that this server answers with 200 and that never reach what records.
    """

    answers_itself: frozenset[bytes] = frozenset()

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.recorder = Recorder()
        self.port = 0

    async def start(self) -> None:
        """Start it and wait until it serves."""
        await self.recorder.start()
        self.port = self.recorder.port

    async def stop(self) -> None:
        """End it; what it has read is complete then."""
        await self.recorder.stop()

    def seen(self) -> list[Recorded]:
        """Every request that it read."""
        return self.recorder.seen

    def logged(self) -> int | None:
        """How many requests its own log has; None without a log of its own."""
        return None


class Aiohttp(Plain):
    """aiohttp's server, whose parser is llhttp."""

    async def start(self) -> None:
        """Start it."""
        self._runner = web.ServerRunner(web.Server(self._handle))
        await self._runner.setup()
        self.port = free_port()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024).start()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        line = f"{request.method} {request.raw_path}".encode("utf-8", "surrogateescape")
        self.recorder.seen.append(Recorded(line, body))
        return web.Response(text="ok")

    async def stop(self) -> None:
        """End it."""
        await self._runner.cleanup()


class Server(Plain):
    """A server in a process of its own."""

    async def _run(self, name: str, command: list[str]) -> None:
        self._child = Child(name, command, self.directory / f"{name}.out")
        await self._child.until(self._is_listening, _START)

    async def _is_listening(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def _end(self, number: int) -> None:
        self._child.signal(number)
        try:
            await self._child.ended(10)
        except TimeoutError:
            self._child.kill_group()


class Nginx(Server):
    """nginx: its access log has the request line and the body."""

    async def start(self) -> None:
        """Start it."""
        self.port, inner = free_port(), free_port()
        (self.directory / "nginx.conf").write_text(
            f"""daemon off; worker_processes 1; pid {self.directory}/nginx.pid; error_log {self.directory}/error.log;
{_user("user {0};")}
events {{ worker_connections 2048; }}
http {{
    log_format seen escape=json '["$request","$request_body"]';
    access_log off; keepalive_requests 10000000; keepalive_timeout 600s; merge_slashes off; client_max_body_size 0;
    client_body_buffer_size 1m; client_body_temp_path {self.directory}/b; proxy_temp_path {self.directory}/p;
    fastcgi_temp_path {self.directory}/f; uwsgi_temp_path {self.directory}/u; scgi_temp_path {self.directory}/s;
    upstream inner {{ server 127.0.0.1:{inner}; keepalive 64; keepalive_requests 10000000; }}
    server {{
        listen 127.0.0.1:{self.port} backlog=1024; access_log {self.directory}/seen.log seen;
        location / {{ proxy_pass http://inner; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
    server {{ listen 127.0.0.1:{inner} backlog=1024; return 200 ok; }}
}}
"""
        )
        self.directory.chmod(0o755)
        command = [program("nginx", "nginx-light"), "-p", str(self.directory), "-c", "nginx.conf", "-e", "stderr"]
        await self._run("nginx", command)

    async def stop(self) -> None:
        """End it in order: the log is complete then."""
        await self._end(signal.SIGQUIT)

    def seen(self) -> list[Recorded]:
        """What the log says; the connection that asked whether it listens sent nothing, hence has no line."""
        found = []
        for line in (self.directory / "seen.log").read_bytes().splitlines():
            request, body = orjson.loads(line.decode("latin-1").encode())
            data = body.encode("latin-1")
            found.append(Recorded(request.encode("latin-1").rpartition(b" ")[0], data))
        return found

    def logged(self) -> int | None:
        """The log is the record."""
        return len(self.seen())


class HAProxy(Server):
    """HAProxy in front of a plain recorder."""

    async def start(self) -> None:
        """Start both."""
        await self.recorder.start()
        self.port = free_port()
        (self.directory / "haproxy.cfg").write_text(
            f"""global
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
    option http-keep-alive
    http-reuse always
frontend in
    bind 127.0.0.1:{self.port} backlog 1024
    default_backend out
backend out
    server one 127.0.0.1:{self.recorder.port}
"""
        )
        await self._run("haproxy", [program("haproxy", "haproxy"), "-db", "-f", str(self.directory / "haproxy.cfg")])

    async def stop(self) -> None:
        """End both."""
        await self._end(signal.SIGTERM)
        await self.recorder.stop()


_MODULES: Final = ("mpm_event", "authz_core", "headers", "proxy", "proxy_http")


class Apache(Server):
    """Apache in front of a plain recorder, with a log of its own."""

    answers_itself = frozenset({b"OPTIONS *"})

    async def start(self) -> None:
        """Start both."""
        await self.recorder.start()
        self.port = free_port()
        modules = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in _MODULES)
        (self.directory / "apache.conf").write_text(
            f"""ServerRoot {self.directory}
ServerName a
Listen 127.0.0.1:{self.port}
PidFile {self.directory}/apache.pid
DefaultRuntimeDir {self.directory}
ErrorLog {self.directory}/error.log
{modules}
{_user("User {0}")}
StartServers 1
MinSpareThreads 1
MaxSpareThreads 64
ThreadsPerChild 32
ThreadLimit 32
ServerLimit 1
MaxRequestWorkers 32
AsyncRequestWorkerFactor 8
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 600
Timeout 600
MergeSlashes Off
AllowEncodedSlashes NoDecode
LogFormat "%r" line
CustomLog {self.directory}/seen.log line "expr=%{{THE_REQUEST}} != ''"
ProxyPass / http://127.0.0.1:{self.recorder.port}/ nocanon
ProxyPreserveHost On
RequestHeader set X-Request-Line "expr=%{{THE_REQUEST}}"
"""
        )
        self.directory.chmod(0o755)
        command = [program("apache2", "apache2-bin"), "-D", "FOREGROUND", "-f", str(self.directory / "apache.conf")]
        await self._run("apache", command)

    async def stop(self) -> None:
        """End both in order: the log is complete then."""
        await self._end(signal.SIGWINCH)
        await self.recorder.stop()

    def logged(self) -> int | None:
        """Lines of its access log."""
        return len((self.directory / "seen.log").read_bytes().splitlines())


def _user(template: str) -> str:
    """Under root, workers keep our own user: they write into our directory."""
    return "" if os.geteuid() else template.format("www-data" if _exists("www-data") else "nobody")


def _exists(name: str) -> bool:
    return any(found.pw_name == name for found in pwd.getpwall())


ENGINES: Final[tuple[type[Plain], ...]] = (Plain, Aiohttp, Nginx, HAProxy, Apache)
