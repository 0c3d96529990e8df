"""The console in a real Chromium, before an API that hangs, goes, tells of another time or knows less than usual."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from selenium.webdriver.common.keys import Keys

from tests.control.conftest import MakePlane
from tests.control.console_api import ConsoleApi, effect, serving
from tests.control.fakes import ledger_stats
from tests.control.helpers import eventually
from tests.harness.browser import Browser

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]
ROUTES = [{"name": name, "match": {"path": f"/api/v1/{name}"}} for name in ("events", "orders")]
TITLE = "document.querySelector('.title h2')?.innerText"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()


@pytest_asyncio.fixture
async def api(make_plane: MakePlane) -> AsyncIterator[ConsoleApi]:
    """It begins with what a real instance of two routes tells."""
    plane = make_plane(routes=ROUTES)
    await plane.start()
    assert plane.ledger is not None
    plane.ledger.tell(ledger_stats())
    await eventually(lambda: plane.supervisor.instance.tally.ledger)
    told = b""
    async with plane.session().get("http://localhost/api/v1/status/stream") as answer:
        while not told.startswith(b"event: snapshot"):
            told = await answer.content.readuntil(b"\n\n")
    async with serving(ConsoleApi(json.loads(told.partition(b"data: ")[2]))) as made:
        yield made


async def test_the_address_says_the_route_and_nothing_else_does(api: ConsoleApi, browser: Browser) -> None:
    await browser.open(f"{api.url}#%")
    await browser.until(f"{TITLE} === 'events'")
    await browser.shows("live", "#link")
    await browser.click(".channel:nth-child(2)")
    await browser.until(f"{TITLE} === 'orders'")
    await browser.run("document.activeElement.blur()")
    await browser.tab_to(".skip")
    await browser.press(Keys.ENTER)
    await browser.until("document.activeElement.id === 'desk'")
    assert await browser.run("return location.hash") == "#route=orders"
    for place in ("#route=%", "#route=gone", "#desk"):
        await browser.run("location.hash = arguments[0]", place)
        api.route("orders")["weight_target"] += 1
        weight = f"{api.route('orders')['weight_target']:g} %"
        await browser.until(f"document.querySelector('#target').innerText === '{weight}'")
        assert await browser.run(f"return {TITLE}") == "orders"
    await browser.click("#rollback")
    await browser.shows("Roll orders back", "#act")
    await browser.press(Keys.ESCAPE)
    await browser.run("location.hash = ''")
    await browser.until(f"{TITLE} === 'events'")
    await browser.shows("live", "#link")


async def test_reasons_of_any_length_fit_a_phone(api: ConsoleApi, browser: Browser) -> None:
    reason = "error rate 31 % of 512 answers at new against 0.2 % at old, looked at again and again for ten seconds"
    word = "x" * 200
    route = api.route("events")
    route |= {"latched": True, "latch_reason": f"{reason} {word}"}
    route["frozen"] = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z", "actor": "ann", "reason": word}
    endpoint = {"address": f"[{'2001:db8::' * 2}1]:8080", "state": "out", "outstanding": 0, "connections": 0}
    for side in route["sides"].values():
        side |= {"paused": f"{reason} {word}", "endpoints": [endpoint | {"trouble": f"{reason} {word}"}]}
    fits = "innerWidth === 390 && document.documentElement.scrollWidth <= 390"
    await browser.open(api.url, width=390, height=844, scheme="dark")
    await browser.shows(word, ".title")
    await browser.shows(word, ".side-panel.new")
    await browser.until(fits, 5)
    api.is_away = True
    await browser.shows("not connected, trying again, figures are of", "#link")
    await browser.until(fits, 5)
    assert await browser.violations() == []


async def test_quantiles_beside_each_other_are_of_one_span(api: ConsoleApi, browser: Browser) -> None:
    api.route("events")["sides"]["new"] |= {"p50": 0.02, "p95": 0.03, "p99": 0.04}
    api.snapshot["lately"]["events"]["new"] |= {"p50": 3.0, "p99": 3.0}
    await browser.open(api.url)
    await browser.shows("40 ms", ".side-panel.new .reading:nth-of-type(3)")
    await browser.shows("over 10 s, as p50 20 ms · p95 30 ms", ".side-panel.new .reading:nth-of-type(3)")
    await browser.until("/at most 40 ms/.test(document.querySelector('.side-panel.new [aria-label^=p99]').ariaLabel)")


async def test_figures_that_grow_old_say_of_when_they_are(api: ConsoleApi, browser: Browser) -> None:
    await browser.open(api.url)
    await browser.shows("live", "#link")
    api.is_silent = True  # signs of life come, but no snapshot, as if it could not be made
    began = time.time()
    assert await browser.shows("nothing new comes, figures are of", "#link") - began < 10
    await browser.until("document.querySelector('#said').innerText.includes('of the past')")
    api.is_silent = False
    await browser.until("document.querySelector('#link .good')")
    await browser.until("document.querySelector('#said').innerText.includes('come again')")


async def test_a_way_back_waits_for_no_preview(api: ConsoleApi, browser: Browser) -> None:
    async def hanging(route: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
        if "dry_run" in body or what == "weight":
            await asyncio.sleep(60)
        return await effect(route, what, body)

    api.answer = hanging
    await browser.open(api.url)
    await browser.shows("live", "#link")
    await browser.run("const wait = AbortSignal.timeout; AbortSignal.timeout = (ms) => wait.call(AbortSignal, ms / 10)")
    await browser.click("#turn")
    await browser.shows("The admin API did not answer within 10 s. Nothing was changed.", "#act .wrong")
    assert await browser.run("return document.querySelector('#go').disabled")
    await browser.press(Keys.ESCAPE)
    await browser.run("AbortSignal.timeout = () => new AbortController().signal")
    await browser.click("#rollback")
    await browser.shows("Asking what it would do", "#act")
    await browser.click("#go")
    await browser.until("!document.querySelector('#act').open")
    await browser.until("document.querySelector('#said').innerText.includes('2 of 2 workers have it')")


async def test_an_answer_that_comes_late_leaves_the_next_dialog_alone(api: ConsoleApi, browser: Browser) -> None:
    go_on = asyncio.Event()

    async def held(route: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
        if "dry_run" not in body:
            await go_on.wait()
        if body.get("reason") == "refused":
            return {"status": 409, "detail": "it was not done"}
        return await effect(route, what, body)

    api.answer = held
    await browser.open(api.url)
    await browser.shows("live", "#link")
    for reason, said in (("done", "#said"), ("refused", "#notices")):
        go_on.clear()
        await browser.click("#rollback")
        await browser.press(reason, Keys.ENTER)
        await browser.until("document.querySelector('#go').disabled")
        await browser.press(Keys.ESCAPE)
        await browser.click_when("#rollback")
        await browser.press("another reason")
        go_on.set()
        await browser.shows({"done": "2 of 2 workers have it", "refused": "it was not done"}[reason], said)
        assert await browser.run("return document.querySelector('#act').open")
        assert await browser.run("return document.querySelector('#act .wrong').hidden")
        assert await browser.run("return document.querySelector('#reason').value") == "another reason"
        await browser.press(Keys.ESCAPE)


async def test_the_past_is_that_of_the_instance_s_own_clock(api: ConsoleApi, browser: Browser) -> None:
    for behind in (3600.0, -3600.0):
        api.behind = behind
        api.spans.clear()
        await browser.open(api.url)
        await browser.shows("live", "#link")
        await eventually(lambda: api.spans, "the question")
        assert abs(float(api.spans[0]["since"]) - (api.now - 300)) < 30


@pytest.mark.parametrize("alive", [False, True])
async def test_what_the_ledger_does_not_say_is_not_known(alive: bool, api: ConsoleApi, browser: Browser) -> None:
    await browser.open(api.url)
    figures = "[...document.querySelectorAll('.side-panel.new .facts-grid div')].map((each) => each.innerText)"
    await browser.until(f"/exact/.test({figures})")
    ledger = api.snapshot["status"]["ledger"]
    ledger["alive"] = alive
    for side in api.route("events")["sides"].values():
        side["ledger"] = dict.fromkeys(side["ledger"]) if alive else side["ledger"]
    if alive:
        ledger |= {"balanced": None, "pending": None, "deferred": None, "dead": None}
    await browser.until(f"{figures}.filter((each) => /not known/.test(each)).length === 5")
    assert not await browser.run(f"return /exact|does not add up/.test({figures})")
    api.route("events")["sides"]["new"].pop("ledger")
    api.route("events")["weight_target"] = 77
    await browser.until("document.querySelector('#target').innerText === '77 %'")
    assert await browser.run(f"return {figures}.filter((each) => /not known/.test(each)).length") == 5
