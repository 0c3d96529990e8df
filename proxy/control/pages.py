"""The console: the files of one page, as browsers may have them. They are public; what the page shows asks the API.

The page has no script, style or address but its own, and writes text alone: the policy below holds it to that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import web

FOLDER: Final = Path(__file__).parent / "console"
PREFIX: Final = "/console"
INDEX: Final = "index.html"
_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
_HEADERS: Final = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Asked for each time, and answered without a body when it is known: an upgrade shows at once.
    "Cache-Control": "no-cache",
}
Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_pages(app: web.Application) -> None:
    """Answer with the console at `/`, and with its files below `/console/`."""
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in _TYPES:
            where = "/" if path.name == INDEX else f"{PREFIX}/{path.name}"
            app.router.add_get(where, _page(path.read_bytes(), _TYPES[path.suffix]))


def _page(content: bytes, kind: str) -> Page:
    tag = hashlib.sha256(content).hexdigest()[:32]

    async def page(request: web.Request) -> web.StreamResponse:
        headers = _HEADERS | {"ETag": f'"{tag}"'}
        if any(each.value == tag for each in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type=kind, charset="utf-8", headers=headers)

    return page
