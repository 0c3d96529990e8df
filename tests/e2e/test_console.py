"""The console in a real Chromium, before an instance under load: what a person sees, may do, and what it looks like."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from selenium.webdriver.common.keys import Keys

from proxy.demo.children import free_port
from proxy.demo.instance import add_sessions
from proxy.demo.load import Load, until_accepted
from proxy.demo.verify import consistency_of
from tests.conftest import SOAK
from tests.harness.browser import Browser
from tests.harness.scene import NEVER_REVERT, Scene, paced, scene

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

SOON = 1.0
"""Seconds until a change of the weight is on the page."""
RESTARTED = 60.0
"""Seconds within which a supervisor is there again on a busy machine."""
JUDGED = 120.0
"""Seconds within which a window is judged on a busy machine."""
TRIGGER = NEVER_REVERT | {"on_breaker": True}
"""Reverts for an open breaker alone."""
PLAN = {
    "steps": [
        {"weight": 25.0, "hold": 600.0, "before": ["smoke"]},
        {"weight": 50.0, "hold": 900.0, "samples": 500},
        {"weight": 100.0, "hold": 900.0},
    ]
}
TARGET = "document.querySelector('#target')?.innerText"
NOTE_LINK = """
window.said = [];
const link = document.querySelector("#link");
const changes = { childList: true, characterData: true, subtree: true };
new MutationObserver(() => said.push(link.innerText)).observe(link, changes);
"""
"""Keeps in `said` all that the page tells of its connection: a supervisor may be back before anybody looks."""


class Desk:
    """The instance with its load, and its page."""

    def __init__(self, opened: Scene, load: Load, browser: Browser, url: str) -> None:
        self.scene = opened
        self.load = load
        self.browser = browser
        self.url = url

    async def open(self, **more: Any) -> None:
        await self.browser.open(self.url, **more)

    async def sign_in(self, token: str) -> None:
        await self.open()
        await self.browser.shows("A token of this instance", "#sign-in")
        await self.browser.type("#token", token, Keys.ENTER)
        await self.browser.shows("live", "#link")

    async def weight(self) -> float:
        return (await self.scene.admin.status()).routes[0].weight_target

    async def newest(self) -> dict[str, Any]:
        entry: dict[str, Any] = (await self.scene.admin.ask("GET", "/api/v1/history?limit=1"))["entries"][0]
        return entry


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("chromium"))
    yield made
    made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def instance(browser: Browser) -> AsyncIterator[Desk]:
    address = f"127.0.0.1:{free_port()}"

    def configure(config: dict[str, Any]) -> None:
        config["admin"] = {"tcp": address}
        for backend in config["backends"].values():
            backend["response_timeout"] = "20s"  # a browser beside them must not look like a backend that fails
        config["consistency"] = [consistency_of(Path()) | {"routes": ["events"]}]
        config["gates"] = [{"name": "smoke", "command": ["true"]}]
        add_sessions(config)

    async with scene(configure, stage="dualwrite", trigger=TRIGGER) as opened:
        load = opened.load(rate=150.0)
        await until_accepted(load, paced(300))
        yield Desk(opened, load, browser, f"http://{address}/")


@pytest_asyncio.fixture(loop_scope="module")
async def desk(instance: Desk) -> Desk:
    """The route as every test finds it."""
    admin = instance.scene.admin
    await admin.rearm(route="events")
    await admin.stage("live", 20, route="events")
    return instance


@pytest_asyncio.fixture(loop_scope="module")
async def tokens(desk: Desk) -> AsyncIterator[dict[str, str]]:
    """By role; they are revoked at the end."""
    admin, made = desk.scene.admin, {}
    for role in ("viewer", "operator"):
        made[role] = (await admin.ask("POST", "/api/v1/tokens", {"name": f"{role}s", "role": role}))["token"]
    yield made
    for role in made:
        await admin.ask("DELETE", f"/api/v1/tokens/{role}s", {})


async def test_it_loads_at_once_under_its_policy_and_asks_nobody_else(desk: Desk) -> None:
    browser = desk.browser
    await desk.open()
    await browser.until(f"{TARGET} === '20 %'")
    await browser.shows("ready", "#facts")
    await browser.shows("route-added", "#feed")
    await browser.until("document.querySelectorAll('.reading .line[d*=L]').length === 6")  # every line is drawn
    assert await browser.complaints() == []
    addresses = await browser.addresses()
    assert f"{desk.url}api/v1/status/stream" in addresses
    assert {each for each in addresses if not each.startswith(desk.url)} == set()
    await browser.click("#rollback")
    await browser.shows("Acting needs an operator's token", "#sign-in")
    assert await desk.weight() == 20


async def test_a_change_of_the_weight_is_seen_within_a_second(desk: Desk) -> None:
    await desk.open()
    await desk.browser.until(f"{TARGET} === '20 %'")
    for weight in (35, 60, 12.5):
        seen = asyncio.create_task(desk.browser.until(f"{TARGET} === '{weight:g} %'"))
        await asyncio.sleep(0.3)  # it looks already
        turned = time.time()
        await desk.scene.admin.weight(weight, route="events")
        at, _ = await seen
        assert at - turned < SOON


async def test_a_viewer_sees_and_changes_nothing(desk: Desk, tokens: dict[str, str]) -> None:
    browser = desk.browser
    await desk.sign_in(tokens["viewer"])
    await browser.shows("viewers, viewer", "#who")
    await browser.until("document.querySelector('#rollback')?.ariaDisabled === 'true'")
    await browser.click("#rollback")
    await browser.shows("The token viewers is a viewer's: it sees and changes nothing", "#sign-in")
    assert await browser.violations() == []
    before = await desk.newest()
    refused = await browser(
        lambda driver: driver.execute_async_script(
            "const done = arguments[0]; import('/console/api.js').then(({ ask }) => "
            "ask('POST', '/api/v1/routes/events/rollback', {})).catch((error) => done([error.status, error.message]))"
        )
    )
    assert refused == [403, "the token viewers is a viewer's; this needs an operator's"]
    assert (await desk.weight(), await desk.newest()) == (20, before)
    kept = await browser.run("return [document.cookie, localStorage.length, location.href]")
    assert kept == ["", 0, desk.url]
    assert all(tokens["viewer"] not in each for each in await browser.addresses())


async def test_a_rollback_with_a_reason_by_the_keyboard_alone(desk: Desk, tokens: dict[str, str]) -> None:
    browser = desk.browser
    await desk.sign_in(tokens["operator"])
    await browser.shows("operators, operator", "#who")
    await browser.tab_to("#rollback")
    await browser.press(Keys.ENTER)
    await browser.shows("20 % → 0 %", "#act")
    await browser.until("!document.querySelector('#go').disabled")
    await browser.press("new is too slow", Keys.ENTER)
    await browser.until(f"{TARGET} === '0 %'")
    await browser.shows("new is too slow", "#feed")
    entry = await desk.newest()
    assert (entry["action"], entry["reason"]) == ("rollback", "new is too slow")
    assert (entry["actor"], entry["after"]["weight"]) == ("token operators (console)", 0)
    await browser.until("document.querySelector('#said').innerText.includes('events')")


async def test_what_changed_since_the_preview_is_shown_before_it_is_done(desk: Desk, tokens: dict[str, str]) -> None:
    browser = desk.browser
    await desk.sign_in(tokens["operator"])
    await browser.until(f"{TARGET} === '20 %'")
    await browser.tab_to("#fader")
    await browser.press(*[Keys.ARROW_RIGHT] * 5)
    await browser.shows("Set 25 %…", "#turn")
    await browser.press(Keys.ENTER)
    await browser.shows("20 % → 25 %", "#act")
    await browser.until("!document.querySelector('#go').disabled")
    await desk.scene.admin.weight(10, route="events")
    await browser.click("#go")
    await browser.shows("look at what changed and try again", "#act .wrong")
    await browser.shows("10 % → 25 %", "#act")
    assert await desk.weight() == 10
    await browser.until("!document.querySelector('#go').disabled")
    await browser.click("#go")
    await browser.until(f"{TARGET} === '25 %' && !document.querySelector('#act').open")


async def test_a_revert_is_seen_and_its_latch_opened(desk: Desk, tokens: dict[str, str]) -> None:
    browser = desk.browser
    await desk.sign_in(tokens["operator"])
    await browser.until(f"{TARGET} === '20 %'")
    await desk.scene.new.fault("errors")
    await browser.shows("latched:", ".title")
    await browser.until("/open/.test(document.querySelector('.side-panel.new .facts-grid').innerText)")
    await desk.scene.new.fault("none")
    await browser.until("/closed/.test(document.querySelector('.side-panel.new .facts-grid').innerText)")
    await browser.click("#rearm")
    await browser.shows("the latch opens", "#act")
    await browser.until("!document.querySelector('#go').disabled")
    await browser.press("new is well again", Keys.ENTER)
    await browser.until("document.querySelector('#rearm').hidden")
    assert (await desk.newest())["action"] == "rearm"


async def test_the_page_outlives_its_supervisor(desk: Desk) -> None:
    browser = desk.browser
    await desk.open()
    await browser.until(f"{TARGET} === '20 %'")
    await browser.run("window.mark = 'the same page'")
    await browser.run(NOTE_LINK)
    (pid,) = desk.scene.instance.pids("supervisor")
    os.kill(pid, signal.SIGSTOP)  # it hangs: the connection stays, and tells nothing
    await browser.shows("nothing new comes, figures are of", "#link")
    os.kill(pid, signal.SIGKILL)
    await browser.until("said.some((each) => each.includes('not connected'))")
    await browser.shows("live", "#link", RESTARTED)
    await desk.scene.admin.until(lambda status: all(worker.alive for worker in status.workers), 90, "the workers")
    await desk.scene.admin.weight(30, route="events")
    await browser.until(f"{TARGET} === '30 %'")
    assert await browser.run("return window.mark") == "the same page"
    assert desk.scene.instance.pids("supervisor") != [pid]


async def test_a_rollout_is_pushed_on_and_it_looks_well_everywhere(desk: Desk, tokens: dict[str, str]) -> None:
    browser, admin = desk.browser, desk.scene.admin
    await admin.ask("POST", "/api/v1/routes/events/rollout", PLAN)
    await admin.until(lambda status: status.routes[0].weight_target == 25, 90, "the first step")
    await desk.sign_in(tokens["operator"])
    await browser.shows("hold 10 min", ".step.now")
    await until_accepted(desk.load, 100)
    await browser.click("#pause")
    await browser.shows("paused, step 1 of 3", "#act")
    await browser.until("!document.querySelector('#go').disabled")
    await browser.press("lunch", Keys.ENTER)
    await browser.click_when("#resume")
    await browser.until("!document.querySelector('#go').disabled")
    await browser.click("#go")
    desk.scene.new.damage(2, 2)  # later than the clicks: what is told of it moves the page
    await browser.until("document.querySelectorAll('.sample').length >= 4", JUDGED)
    assert await browser.run("return document.querySelectorAll('.beside tbody td').length") >= 4
    wide, narrow = (1440, 900), (390, 844)
    for scheme, sizes in (
        ("light", (wide, narrow) if SOAK else (wide,)),
        ("dark", (wide, narrow) if SOAK else (narrow,)),
    ):
        for width, height in sizes:
            await browser.look(width=width, height=height, scheme=scheme)
            await browser.until(f"innerWidth === {width} && document.documentElement.scrollWidth <= {width}")
            assert await browser.violations() == []
            await browser.run("scrollTo(0, 0)")
            await browser.screenshot(f"console-{width}-{scheme}")
    await browser.screenshot("console-390-whole", whole=True)
    await browser.look(width=1440, height=900, scheme="light")
    await browser.screenshot("console-1440-whole", whole=True)
    await browser.look(width=900, height=700, scheme="light")
    await browser.run("scrollTo(0, 0)")
    await browser.click("#rollback")
    await browser.shows("25 % → 0 %", "#act")
    await browser.until("!document.querySelector('#go').disabled")
    assert await browser.violations() == []
    await browser.screenshot("console-rollback")
    await browser.press(Keys.ESCAPE)
    await browser.click_when("#promote")
    await browser.until("!document.querySelector('#go').disabled")
    await browser.click("#go")
    await browser.until(f"{TARGET} === '50 %' && document.querySelector('.step.now .to').innerText === '50 %'")
