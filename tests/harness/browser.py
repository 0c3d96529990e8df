"""Debian's Chromium without a window, used as by a person: looks, types, presses keys, and says what the page met."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium_axe_python.axe import Axe

from deploy.packages import program

SCREENSHOTS: Final = Path(__file__).parents[2] / "build" / "screenshots"
PATIENCE: Final = 60.0
"""Seconds until a test gives up on something that the page should have shown."""
_RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_LOGS: Final = {"browser": "ALL", "performance": "ALL"}
T = TypeVar("T")

_WHEN: Final = """
const [text, seconds, done] = arguments;
const holds = new Function("return " + text);
const deadline = performance.now() + seconds * 1000;
(function look() {
  let found;
  try { found = holds(); } catch (error) { found = false; }
  if (found) done([Date.now(), found]);
  else if (performance.now() > deadline) done(null);
  else setTimeout(look, 5);
})();
"""
"""Looks again and again whether an expression holds; the time at which it first did, ms since 1970, and its value."""


class Browser:
    """One Chromium. Everything that waits for it runs in a thread, for a test's load is in the test's own loop."""

    def __init__(self, profile: Path) -> None:
        options = ChromeOptions()
        options.binary_location = program("chromium", "chromium")
        for word in (
            "--headless=new",
            "--no-proxy-server",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ):
            options.add_argument(word)
        options.add_argument(f"--user-data-dir={profile}")
        options.add_argument("--disable-background-networking")
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", _LOGS)
        self.driver = Chrome(options, Service(program("chromedriver", "chromium-driver")))
        self.driver.set_script_timeout(PATIENCE * 2)

    def close(self) -> None:
        """End it."""
        self.driver.quit()

    async def __call__(self, do: Callable[[Chrome], T]) -> T:
        """What `do` makes of the driver."""
        return await asyncio.to_thread(do, self.driver)

    # --- looking -------------------------------------------------------------------------------------------

    async def open(self, url: str, *, width: int = 1440, height: int = 1000, scheme: str = "light") -> None:
        """The page in a tab of its own, which knows no token yet. scheme: light or dark."""

        def go(driver: Chrome) -> None:
            before = driver.current_window_handle
            driver.switch_to.new_window("tab")
            made = driver.current_window_handle
            driver.switch_to.window(before)
            driver.close()
            driver.switch_to.window(made)
            for kind in _LOGS:
                driver.get_log(kind)  # type: ignore[no-untyped-call]
            self._size(driver, width, height)
            self._scheme(driver, scheme)
            driver.get(url)

        await self(go)

    async def look(self, *, width: int, height: int = 1000, scheme: str) -> None:
        """The same page at another width, or in another scheme."""
        await self(lambda driver: (self._size(driver, width, height), self._scheme(driver, scheme)))

    @staticmethod
    def _size(driver: Chrome, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    @staticmethod
    def _scheme(driver: Chrome, scheme: str) -> None:
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    async def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return await self(lambda driver: driver.execute_script(script, *arguments))

    async def until(self, expression: str, seconds: float = PATIENCE) -> tuple[float, Any]:
        """When a JavaScript expression first held, seconds since 1970, and its value; fails with the page's text."""
        found = await self(lambda driver: driver.execute_async_script(_WHEN, expression, seconds))
        if found is None:
            raise AssertionError(
                f"{expression} did not come true\n{await self.text('body')}\n{await self.complaints()}"
            )
        return found[0] / 1000, found[1]

    async def shows(self, text: str, where: str = "body", seconds: float = PATIENCE) -> float:
        """Wait until a text is to be read there; when it was, seconds since 1970."""
        wanted, place = json.dumps(text), json.dumps(where)
        return (await self.until(f"document.querySelector({place})?.innerText.includes({wanted})", seconds))[0]

    async def text(self, where: str) -> str:
        """What is to be read in an element."""
        return str(await self.run("return document.querySelector(arguments[0])?.innerText ?? ''", where))

    # --- doing ---------------------------------------------------------------------------------------------

    def element(self, where: str) -> WebElement:
        """The first element of a CSS selector."""
        return self.driver.find_element(By.CSS_SELECTOR, where)

    async def click(self, where: str) -> None:
        """Click an element."""
        await self(lambda _: self.element(where).click())

    async def click_when(self, where: str) -> None:
        """Click an element once it is there to be clicked, and nothing lies before it."""
        await self.until(f"!document.querySelector('dialog[open]') && document.querySelector('{where}')?.offsetParent")
        await self.click(where)

    async def type(self, where: str, *keys: str) -> None:
        """Give an element keys."""
        await self(lambda _: self.element(where).send_keys(*keys))

    async def press(self, *keys: str) -> None:
        """Give keys to whatever has the focus."""
        await self(lambda driver: driver.switch_to.active_element.send_keys(*keys))

    async def tab_to(self, where: str, most: int = 60) -> None:
        """Reach an element by the keyboard alone; fails when it cannot be reached."""
        for _ in range(most):
            await self.press(Keys.TAB)
            if await self.run("return document.activeElement.matches(arguments[0])", where):
                return
        raise AssertionError(f"{where} cannot be reached with {most} tabs")

    # --- what it met ---------------------------------------------------------------------------------------

    async def complaints(self) -> list[str]:
        """What its console has had to say since it was asked last: errors, refusals of the policy, warnings."""
        log = await self(lambda driver: driver.get_log("browser"))  # type: ignore[no-untyped-call]
        return [f"{each['level']} {each['message']}" for each in log]

    async def addresses(self) -> set[str]:
        """Every address that was asked for since it was asked last."""
        log = await self(lambda driver: driver.get_log("performance"))  # type: ignore[no-untyped-call]
        messages = [json.loads(each["message"])["message"] for each in log]
        return {each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"}

    async def violations(self) -> list[str]:
        """What axe-core finds wrong with the page."""

        def check(driver: Chrome) -> list[str]:
            axe = Axe(driver)
            axe.inject()  # type: ignore[no-untyped-call]
            found: Any = axe.run(options={"runOnly": _RULES})
            assert len(found["passes"]) > 20, "axe has hardly looked at anything"
            return [
                f"{each['id']}: {each['help']}: {node['html'][:200]} {node.get('failureSummary', '')}"
                for each in found["violations"]
                for node in each["nodes"]
            ]

        return await self(check)

    async def screenshot(self, name: str, *, whole: bool = False) -> Path:
        """Keep what it shows, as NAME.png. whole: the page to its end."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        options = {"format": "png", "captureBeyondViewport": whole}
        if whole:
            size = await self.run(
                "return {x: 0, y: 0, scale: 1, width: innerWidth, height: document.documentElement.scrollHeight}"
            )
            options["clip"] = size
        shot = await self(lambda driver: driver.execute_cdp_cmd("Page.captureScreenshot", options))
        path.write_bytes(base64.b64decode(shot["data"]))
        return path
