"""The dashboard in Chromium: what an operator sees and does, with a live configuration behind it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated

import pytest
import pytest_asyncio
from aiohttp import web
from pydantic import Field, SecretStr

from hotconf import HotConf, Options, RestartRequired, Section
from hotconf.sources import Memory
from hotconf.web import Safety, Server, config_app
from tests.support import PATIENCE, Demo, require_tool

# One event loop for all, since one browser serves all.
pytestmark = pytest.mark.asyncio(loop_scope="module")

MARKUP = "<img src=x onerror=\"document.title='owned'\">"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
FAILED_LOAD = "Failed to load resource"


class Database(Section):
    url: str = "db://one"
    pool_size: Annotated[int, Field(ge=1)] = 10
    password: SecretStr = SecretStr("hunter2")


class App(Section):
    message: str = "one"
    port: Annotated[int, RestartRequired()] = 8080
    exact: float = 1.0
    large: int = 12345678901234567890
    database: Database = Database()
    labels: dict[str, str] = {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    path = require_tool("chromium")
    from playwright.async_api import async_playwright, expect

    expect.set_options(timeout=PATIENCE * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        await browser.close()


class View:
    """A page that shows the dashboard of a server."""

    def __init__(self, page, origin):
        self.page = page
        self.origin = origin
        self.complaints = []
        self.requested = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._heard)
        page.on("request", lambda request: self.requested.append(request.url))

    def _heard(self, message):
        # Some of these tests make requests that are refused or fail.
        if message.type in ("error", "warning") and not message.text.startswith(FAILED_LOAD):
            self.complaints.append(message.text)

    def __getattr__(self, name):
        return getattr(self.page, name)

    async def sees(self, selector, text):
        from playwright.async_api import expect

        await expect(self.page.locator(selector)).to_contain_text(text)

    async def sees_no(self, selector):
        from playwright.async_api import expect

        await expect(self.page.locator(selector)).to_be_hidden()

    def leaf(self, path):
        return f'#tree details[data-key="{path}"] > summary'

    async def width(self):
        return await self.page.evaluate("document.documentElement.scrollWidth")


@contextlib.asynccontextmanager
async def viewing(browser, origin, path="/dashboard", **options):
    """Open a dashboard. At the end there must be no error, and no request to another server."""
    page = await browser.new_page(**{"viewport": {"width": 1440, "height": 900}, **options})
    try:
        view = View(page, origin)
        await page.goto(origin + path)
        yield view
        assert view.complaints == []
        assert [url for url in view.requested if not url.startswith((origin, "data:"))] == []
    finally:
        await page.close()


class Site:
    """A configuration that is fed from memory, and its server."""

    def __init__(self, conf, memory, server):
        self.conf, self.memory, self.server = conf, memory, server

    @property
    def url(self):
        return self.server.url

    async def change(self, **values):
        self.memory.set(values)
        return await self.conf.reload()


@contextlib.asynccontextmanager
async def serving(*, prefix="", safety=None, overlay=None, **values):
    memory = Memory(values)
    conf = HotConf(App, sources=[memory], options=Options(watch=False, overlay=overlay))
    async with conf.running(signals=()):
        app = config_app(conf, safety=safety)
        if prefix:
            outer = web.Application()
            outer.add_subapp(prefix, app)
            app = outer
        server = Server(app, port=0)
        await server.start()
        try:
            yield Site(conf, memory, server)
        finally:
            await server.drain(deadline=asyncio.get_running_loop().time() + 5)
            await server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def site():
    async with serving(message="one") as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def view(browser, site):
    async with viewing(browser, site.url) as view:
        await view.sees("#state", "ready")
        yield view


async def in_thread(function, *arguments):
    return await asyncio.to_thread(function, *arguments)


async def test_break_the_file_mend_it_and_roll_back(browser, tmp_path):
    """From the fault at its line back to the first message, in a process of its own and three forms of the page."""
    demo = Demo(tmp_path)
    try:
        await in_thread(demo.ready)
        async with viewing(browser, f"http://127.0.0.1:{demo.port}") as view:
            await view.sees("#verdict-text", "applied")
            await view.sees(view.leaf("message"), f"{demo.config}:1:1")
            await view.screenshot(path=tmp_path / "wide.png", full_page=True)
            demo.write('message = "Before hot reload"\nlog_level = 7\n')
            fault = view.locator("#verdict .faults li")
            await fault.wait_for(timeout=5000)
            assert (await fault.inner_text()).startswith(f"{demo.config}:2:1: log_level: ")
            await view.sees("#verdict-text", "generation 1 stays in force")
            await view.sees("#degraded", "rejected")
            await view.screenshot(path=tmp_path / "broken.png", full_page=True)

            demo.say("After hot reload")
            await view.sees("#verdict-text", "generation 2 is in force")
            await view.sees(view.leaf("message"), "After hot reload")
            await view.sees(view.leaf("message"), 'was "Before hot reload"')
            await view.sees_no("#degraded")

            await view.get_by_role("button", name="Roll back to 1").click()
            await view.sees("#confirm-text", 'message: "After hot reload" becomes "Before hot reload"')
            await view.get_by_role("dialog").get_by_role("button", name="Roll back").click()
            await view.sees("#answer-text", "generation 3 is in force")
            await view.sees("#history-list .row:first-child", "Generation 3")
            assert await in_thread(demo.message) == "Before hot reload"

            await view.set_viewport_size({"width": 360, "height": 740})
            assert await view.width() == 360
            await view.screenshot(path=tmp_path / "narrow.png", full_page=True)
            await view.set_viewport_size({"width": 1440, "height": 900})
            await view.emulate_media(color_scheme="dark")
            await view.screenshot(path=tmp_path / "dark.png", full_page=True)
            assert await view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 21, 23)"
    finally:
        await in_thread(demo.kill)


async def test_a_lost_server_is_shown_and_its_successor_is_found(browser, tmp_path):
    demo = Demo(tmp_path)
    try:
        await in_thread(demo.ready)
        async with viewing(browser, f"http://127.0.0.1:{demo.port}") as view:
            await view.sees("#state", "ready")
            await in_thread(demo.kill)
            await view.sees("#state", "unreachable")
            await view.sees("#connection", "Below is the state of")
            await view.sees(view.leaf("message"), "Before hot reload")
            assert await view.locator("#reload").is_disabled()
            assert await view.locator("body").get_attribute("class") == "stale"
            # The page also tries again by itself, and would hide the button. With its time fixed the countdown to that
            # stands still.
            await view.clock.set_fixed_time(await view.evaluate("Date.now()"))
            demo.say("Another life")
            demo = Demo(tmp_path, "--port", str(demo.port))
            await in_thread(demo.ready)
            await view.locator("#try-now").click()
            await view.sees("#state", "ready")
            await view.sees(view.leaf("message"), "Another life")
            await view.sees_no("#connection")
            assert await view.locator("#reload").is_enabled()
    finally:
        await in_thread(demo.kill)


async def test_a_rejected_reload_is_shown_at_once(browser, site):
    async with viewing(browser, "about:blank", "") as view:
        view.origin = site.url
        await view.clock.install()  # no timer runs from here on
        await view.goto(site.url + "/dashboard")
        await view.sees("#verdict-text", "applied")
        await site.change(database={"pool_size": 0})
        await view.sees("#verdict .faults", "database.pool_size: ")
        view.requested.clear()


async def test_markup_in_a_value_is_text(view, site):
    await site.change(message=MARKUP, labels={MARKUP: MARKUP, "a.b/c": "a key like a path"})
    await view.sees(view.leaf("message"), "<img src=x onerror=")
    labels = view.locator('#tree details[data-key="/labels"] .leaf')
    for index, key in enumerate((MARKUP, "a.b/c")):
        await labels.nth(index).locator("summary").click()
        await view.sees(f"#tree .leaf:nth-child({index + 1}) .explanation", key.split('"')[0])
        await view.sees(f"#tree .leaf:nth-child({index + 1}) .explanation", "comes from")
    site.memory.set({"message": [MARKUP], MARKUP: 1})
    await view.locator("#reload").click()
    await view.sees("#answer-text .faults", "<img src=x onerror=")
    assert await view.locator("img").count() == 0
    assert await view.title() != "owned"


async def test_I11_a_secret_stays_masked(view, site):
    await view.locator(view.leaf("database.password")).click()
    await view.sees("#tree .explanation", "database.password")
    assert "hunter2" not in await view.content()


async def test_numbers_are_shown_as_they_are_written(view, site):
    await view.sees(view.leaf("exact"), "1.0")
    await view.sees(view.leaf("large"), "12345678901234567890")


async def test_a_dry_run_says_what_would_change_and_changes_nothing(view, site):
    site.memory.set({"message": "two"})
    await view.locator("#dry-run").click()
    await view.sees("#answer-text", "these settings would change")
    await view.sees("#answer-text", "message")
    assert site.conf.current.message == "one"
    site.memory.set({"message": 2})
    await view.locator("#dry-run").click()
    await view.sees("#answer-text .faults", "message: ")
    await view.locator("#dismiss").click()
    await view.sees_no("#answer")


async def test_only_a_reload_that_the_guard_rejected_can_be_forced(browser):
    async with serving(message="mine") as site, viewing(browser, site.url) as view:
        await site.change(message=2)
        await view.sees("#verdict-text", "at validate")
        await view.sees_no("#force")
        await site.change()
        await view.sees("#verdict-text", "at guard")
        await view.locator("#force").click()
        await view.sees("#confirm-text", "values vanish")
        await view.sees("#confirm-text .changes", "message")
        await view.locator("#confirm-no").click()
        await view.sees_no("#confirm")
        assert site.conf.current.message == "mine"
        await view.locator("#force").click()
        await view.locator("#confirm-yes").click()
        await view.sees("#answer-text", "generation 2 is in force")
        await view.sees_no("#force")
        assert site.conf.reports[-1].changed == ("message",)
        await view.get_by_role("button", name="Roll back to 1").click()
        await view.sees("#confirm-yes", "Roll back")
        await view.sees("#confirm-text", "becomes")


async def test_a_held_rollback_can_be_overridden(browser):
    async with serving(message="one") as site, viewing(browser, site.url) as view:
        await site.change(message="two")
        await site.conf.rollback()
        await view.sees("#facts", "rollback, as generation 3")
        await view.locator("#force").click()
        await view.sees("#confirm-text", "A rollback is held")
        await view.sees("#confirm-text .changes", "message")
        await view.locator("#confirm-yes").click()
        await view.sees("#answer-text", "generation 4 is in force")
        await view.sees_no("#force")
        assert site.conf.current.message == "two"


async def test_a_patch_can_be_confirmed_before_it_is_undone(browser, tmp_path):
    async with serving(overlay=tmp_path / "overlay.toml") as site, viewing(browser, site.url) as view:
        await view.sees(view.leaf("message"), "one")
        await site.conf.patch({"message": "patched"}, confirm=600)
        await view.sees(view.leaf("message"), "patched")
        await view.sees("#unconfirmed", "undone in 9 min")
        await view.locator("#keep").click()
        await view.sees_no("#unconfirmed")
        assert site.conf.unconfirmed is None


async def test_a_pending_restart_is_listed_with_both_values(view, site):
    await site.change(message="one", port=9090)
    await view.sees("#pending-list", "port")
    await view.sees("#pending-list", "8080")
    await view.sees("#pending-list", "9090")
    await site.change(message="one")
    await view.sees_no("#pending")


async def test_the_filter_finds_paths_values_and_origins(view, site):
    await view.locator("#filter").fill("POOL")
    await view.sees("#count", "1 of ")
    await view.sees_no(view.leaf("message"))
    await site.change(message="two")
    await view.sees("#history-list .row:first-child", "Generation 2")
    await view.sees_no(view.leaf("message"))
    await view.locator("#filter").fill('"two"')
    await view.sees(view.leaf("message"), "two")
    await view.sees_no(view.leaf("database.pool_size"))


async def test_everything_is_reached_by_keyboard(view, site):
    await site.change(message="two")
    await view.sees("#history-list", "Roll back to 1")
    reached = []
    for _ in range(30):
        await view.keyboard.press("Tab")
        reached.append(await view.evaluate("document.activeElement.id || document.activeElement.textContent"))
    names = ["reload", "dry-run", "filter", "message", "database", "Roll back to 1"]
    found = [next(at for at, text in enumerate(reached) if text.startswith(name)) for name in names]
    assert found == sorted(found)
    await view.locator(view.leaf("message")).focus()
    await view.keyboard.press("Enter")
    await view.sees("#tree .explanation", "comes from")
    await site.change(message="three")
    await view.sees(view.leaf("message"), "three")
    assert (await view.evaluate("document.activeElement.textContent")).startswith("message"), "the focus stays"
    await view.sees("#tree .explanation", "comes from")
    await view.get_by_role("button", name="Roll back to 1").focus()
    await view.keyboard.press("Enter")
    await view.sees("#confirm", "Roll back to generation 1?")
    await view.keyboard.press("Escape")
    await view.sees_no("#confirm")
    assert site.conf.snapshot.generation == 3


async def test_the_landmarks_and_live_regions(view):
    tree = await view.locator("body").aria_snapshot()
    regions = [f'region "{name}"' for name in ("Last verdict", "Configuration", "Sources", "History", "Reloads")]
    for line in ("banner", "main", "status: ready", *regions):
        assert line in tree
    assert await view.locator("#verdict-text").get_attribute("aria-live") == "polite"


async def test_the_token_is_requested_and_kept_by_the_tab(browser):
    async with serving(safety=Safety(token="t0ken")) as site, viewing(browser, site.url) as view:
        await view.sees_no("main")
        for token, answer in (("wrong", "was refused"), ("t0ken", "")):
            await view.locator("#token").fill(token)
            await view.keyboard.press("Enter")
            await view.sees("#token-label", answer)
        await view.sees("#state", "ready")
        await view.sees_no("#token-form")
        await view.locator("#reload").click()
        await view.sees("#answer-text", "unchanged")
        await view.reload()
        await view.sees("#state", "ready")
        assert not [url for url in view.requested if "t0ken" in url]
        await view.locator("#forget").click()
        await view.sees("#token-label", "requires a token")
        await view.sees("#state", "token needed")


async def test_it_works_below_a_prefix(browser):
    async with serving(prefix="/admin/conf", message="below") as site:
        async with viewing(browser, site.url, "/admin/conf/dashboard/") as view:
            await view.sees(view.leaf("message"), "below")
            await view.sees("#place", "/admin/conf")


async def test_endpoints_that_the_server_does_not_offer_are_named(browser, site):
    async def refuse(route):
        problem = {"title": "Not Implemented", "status": 501, "detail": "not offered here", "faults": []}
        await route.fulfill(status=501, json=problem, content_type="application/problem+json")

    async with viewing(browser, site.url) as view:
        await view.sees("#state", "ready")
        for path in ("history", "reloads", "explain", "reload?dry_run=1"):
            await view.route(f"{site.url}/{path}", refuse)
        await site.change(message="two")
        for panel in ("#history-list", "#reloads-list", "#tree"):
            await view.sees(panel, "Not available: not offered here")
        await view.locator("#dry-run").click()
        await view.sees("#answer-text", "not offered here")


async def test_a_drain_is_shown(browser):
    async with serving() as site, viewing(browser, site.url) as view:
        await view.sees("#state", "ready")
        draining = asyncio.create_task(site.server.drain(deadline=asyncio.get_running_loop().time() + 5))
        await view.sees("#state", "unreachable")
        assert await draining == ()
