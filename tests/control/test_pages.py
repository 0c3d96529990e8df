"""The console as a browser gets it: for everybody on this machine, under a policy that lets in nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from proxy.control.pages import FOLDER, INDEX
from tests.control.conftest import MakePlane

FILES = sorted(path.name for path in FOLDER.iterdir())
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}


@pytest_asyncio.fixture
async def pages(make_plane: MakePlane) -> AsyncIterator[aiohttp.ClientSession]:
    plane = make_plane(admin={"tcp": "127.0.0.1:0"})
    await plane.start()
    await plane.ask("POST", "/api/v1/tokens", {"name": "a", "role": "viewer"})  # the page is public nevertheless
    async with aiohttp.ClientSession(plane.supervisor.admin.tcp) as session:
        yield session


@pytest.mark.asyncio
async def test_every_file_comes_with_the_policy(pages: aiohttp.ClientSession) -> None:
    assert INDEX in FILES
    for name in FILES:
        async with pages.get("/" if name == INDEX else f"/console/{name}") as answer:
            assert answer.status == 200, name
            assert await answer.read() == (FOLDER / name).read_bytes()
        said = dict(each.split(" ", 1) for each in answer.headers["Content-Security-Policy"].split("; "))
        assert said == POLICY
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "Set-Cookie" not in answer.headers
        async with pages.get(answer.url, headers={"If-None-Match": answer.headers["ETag"]}) as known:
            assert (known.status, await known.read()) == (304, b"")


@pytest.mark.asyncio
async def test_it_is_for_our_own_names_alone(pages: aiohttp.ClientSession) -> None:
    async with pages.get("/", headers={"Host": "evil.example.com"}) as answer:
        assert answer.status == 403
    async with pages.post("/") as answer:
        assert answer.status == 405
    for path in ("/console/", "/console/index.html", "/console/../admin.py", "/console/%2e%2e/admin.py"):
        async with pages.get(path) as answer:
            assert answer.status == 404, path


def test_it_names_no_address_but_its_own() -> None:
    for name in FILES:
        text = (FOLDER / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z0-9-]+\.[a-z]{2,}/|\bwss?:", text), name


def test_it_makes_no_html_of_text_and_has_nothing_inline() -> None:
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\(\"style"
    for name in FILES:
        text = (FOLDER / name).read_text()
        assert not re.search(sinks, text), name
        if name == INDEX:
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)


def test_whatever_a_module_imports_is_there() -> None:
    for name in FILES:
        if name.endswith(".js"):
            for wanted in re.findall(r'from "\./([^"]+)"', (FOLDER / name).read_text()):
                assert wanted in FILES, name
