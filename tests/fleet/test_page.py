"""The interface of a fleet: what a judge serves, its metrics and alerts, and the page in Chromium."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess

import aiohttp
import yaml

from hotconf.fleet.metrics import FleetMetrics
from hotconf.fleet.plan import Stage
from hotconf.fleet.stores.memory import MemoryStore
from hotconf.web import Safety, Server
from hotconf.web.fleet import fleet_app
from tests.fleet.live import BAD, BETTER, GOOD, Live
from tests.support import PATIENCE, ROOT, require_tool
from tests.web.test_dashboard_browser import FLAGS

NAMES = [f"web-{n}" for n in range(8)]
SLOW = (Stage(percent=25, bake=30), Stage(percent=100))


@contextlib.asynccontextmanager
async def serving():
    """A live fleet with a first release, whose judge serves its page."""
    async with Live(MemoryStore(), judge=False) as fleet:
        await fleet.propose(GOOD)
        await fleet.join(*NAMES)
        judge, _ = fleet.judge(judge="judge a")
        server = Server(fleet_app(judge, safety=Safety.read(token_file=None)), port=0)
        await server.start()
        try:
            await fleet.wait(lambda: judge.leads and len(judge.members.alive) == len(NAMES))
            yield fleet, judge, server.url
        finally:
            await server.stop()


async def test_the_status_and_what_operators_do():
    async with serving() as (fleet, _judge, url), aiohttp.ClientSession(url) as client:

        async def ask(path, method="GET", **options):
            async with client.request(method, path, **options) as answer:
                body = await answer.read()
                return answer.status, (await answer.json() if answer.content_type.endswith("json") else body.decode())

        status, found = await ask("/fleet")
        assert (status, found["state"], found["instances"], found["judge"]) == (200, "idle", 8, "judge a")
        await fleet.propose(BETTER, stages=SLOW)
        await fleet.until("baking")
        assert (await ask("/fleet/rollout/pause", "POST"))[1]["state"] == "paused"
        assert (await ask("/fleet/rollout/pause", "POST"))[0] == 409
        assert (await ask("/fleet/rollout/resume", "POST"))[1]["state"] == "spreading"
        assert (await ask("/fleet/rollout/approve", "POST"))[0] == 409
        assert (await ask("/fleet/rollout/promote", "POST"))[1]["state"] == "spreading"
        await fleet.until("done")
        assert (await ask("/fleet/rollback", "POST"))[1]["state"] == "idle"
        assert (await ask("/fleet/rollout/abort", "POST"))[0] == 409
        assert (await ask("/fleet/rollout/dance", "POST"))[0] == 404
        assert (await ask("/fleet/releases"))[1]["releases"][1]["release"] == 2
        assert (await ask("/fleet/releases/2")) == (200, BETTER.decode())
        assert (await ask("/fleet/releases/9"))[0] == 404
        rows = (await ask("/fleet/instances"))[1]["instances"]
        assert sorted(row["id"] for row in rows) == NAMES
        rest = (await ask("/fleet/instances", params={"cursor": rows[5]["key"], "state": "refused"}))[1]
        assert rest == {"instances": [], "cursor": None}
        async with client.get("/fleet") as first:
            tag = first.headers["ETag"]
        async with client.get("/fleet", headers={"If-None-Match": tag}) as second:
            assert second.status in (200, 304)
        async with client.get("/fleet", headers={"Host": "evil.example"}) as foreign:
            assert foreign.status == 421 or foreign.status == 403
        fleet.store.failing = True
        assert (await ask("/fleet/releases"))[0] == 503


def value(text, name):
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)[1])


async def test_I28_the_metrics_of_a_judge_name_no_instance():
    async with serving() as (fleet, judge, _):
        metrics = FleetMetrics(judge)
        text = metrics.exposition().decode()
        assert value(text, "hotconf_fleet_judge_term") == 1
        assert value(text, "hotconf_fleet_rollout_stage") == -1
        await fleet.propose(BETTER, stages=SLOW)
        await fleet.until("baking")
        await fleet.wait(lambda: value(metrics.exposition().decode(), "hotconf_fleet_rollout_stage") == 0)
        await fleet.control.act("abort")
        await fleet.propose(BAD)
        await fleet.until("reverted")
        text = metrics.exposition().decode()
        assert value(text, "hotconf_fleet_refused_total") == len(NAMES)
        assert value(text, 'hotconf_fleet_rollout_state{state="reverted"}') == 1
        assert value(text, 'hotconf_fleet_instances{state="applied"}') + value(
            text, 'hotconf_fleet_instances{state="waiting"}'
        ) == len(NAMES)
        assert value(text, 'hotconf_fleet_instances{state="silent"}') == 0
        assert value(text, "hotconf_fleet_judge_leads") == 1
        assert value(text, "hotconf_fleet_judge_last_step_timestamp_seconds") > 1e9
        assert "web-" not in text, "I28: no metric has an instance"
        done = subprocess.run(
            [require_tool("promtool"), "check", "metrics"], input=text.encode(), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_the_alerts_are_rules_of_metrics_that_exist(tmp_path):
    text = re.search(r"```yaml\n# fleet-alerts\.yaml\n(.*?)```", (ROOT / "docs/fleet.md").read_text(), re.DOTALL)[1]
    path = tmp_path / "alerts.yaml"
    path.write_text(text)
    done = subprocess.run([require_tool("promtool"), "check", "rules", path], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    code = (ROOT / "hotconf/fleet/metrics.py").read_text()
    for rule in yaml.safe_load(text)["groups"][0]["rules"]:
        for name in re.findall(r"hotconf_fleet_\w+", rule["expr"]):
            assert f'"{name.removesuffix("_total")}"' in code


async def test_a_release_is_watched_and_stopped_on_the_page(tmp_path):
    path = require_tool("chromium")
    from playwright.async_api import async_playwright, expect

    expect.set_options(timeout=PATIENCE * 1000)
    async with serving() as (fleet, _, url), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = await browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(url)
        await expect(page.locator("#state")).to_have_text("idle")
        await fleet.propose(BAD)
        await expect(page.locator("#state")).to_have_text("reverted")
        await expect(page.locator("#reason")).to_contain_text("fleet:shop/2:1:1: message")
        await fleet.propose(BETTER, stages=SLOW)
        await expect(page.locator("#state")).to_have_text("baking")
        await expect(page.locator("#stages [aria-current=step]")).to_have_text("25 %, bakes 30 s")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.locator("#state")).to_have_text("paused")
        await page.get_by_role("button", name="Resume").click()
        await expect(page.locator("#state")).to_have_text("baking")
        await page.get_by_role("button", name="Abort").click()
        await expect(page.locator("#state")).to_have_text("aborted")
        await fleet.wait(lambda: fleet.messages() == {"good"})
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, "nothing is wider than a phone"
        await page.screenshot(path=tmp_path / "fleet.png")
        assert errors == []
        await browser.close()
        await asyncio.sleep(0)
