"""BuildCache: a large document is built once, in a thread, for all requests."""

import asyncio
import threading

import pytest

import hotconf.api.config as config
import hotconf.schema.explain as explain
from hotconf import Section
from hotconf.api.cache import BuildCache, is_large
from tests.heart import cancel, until
from tests.web.sites import site_of


class Owner:
    pass


class Work:
    """A build that ends when the test says so, and records the threads that it ran in."""

    def __init__(self, result="built"):
        self.result = result
        self.go_on = threading.Event()
        self.threads = []

    def __call__(self):
        self.threads.append(threading.current_thread())
        assert self.go_on.wait(20)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def builds():
    return BuildCache(lambda _owner: True, most=3)


async def test_concurrent_requests_share_one_build(builds):
    owner, work = Owner(), Work()
    asking = [asyncio.create_task(builds.get(owner, "name", work)) for _ in range(3)]
    await until(lambda: work.threads)
    await cancel(asking[0])  # the first request leaves: the others must get the result
    work.go_on.set()
    assert await asyncio.gather(*asking[1:]) == ["built", "built"]
    assert await builds.get(owner, "name", work) == "built"
    assert len(work.threads) == 1
    assert work.threads[0] is not threading.current_thread()


async def test_a_small_owner_is_built_in_the_event_loop():
    work = Work()
    work.go_on.set()
    assert await BuildCache(lambda _owner: False).get(Owner(), "name", work) == "built"
    assert work.threads == [threading.current_thread()]


async def test_a_failure_is_raised_in_every_request_and_not_kept(builds):
    owner, work = Owner(), Work(LookupError("gone"))
    asking = [asyncio.create_task(builds.get(owner, "name", work)) for _ in range(2)]
    await until(lambda: work.threads)
    work.go_on.set()
    assert [str(error) for error in await asyncio.gather(*asking, return_exceptions=True)] == ["gone", "gone"]
    work.result = "found"
    assert await builds.get(owner, "name", work) == "found"


async def test_a_failure_after_its_request_gave_up_is_not_logged(builds, caplog):
    owner, work = Owner(), Work(LookupError("gone"))
    asking = asyncio.create_task(builds.get(owner, "name", work))
    await until(lambda: work.threads)
    await cancel(asking)
    work.go_on.set()
    await until(lambda: not builds._builds)
    assert caplog.records == []


async def test_only_builds_of_the_newest_owner_are_kept_and_only_so_many(builds):
    work = Work()
    work.go_on.set()
    old, new = Owner(), Owner()
    for owner in (old, new, old):
        await builds.get(owner, "name", work)
    assert len(work.threads) == 3
    for name in ("second", "third", "fourth"):
        await builds.get(old, name, work)
    assert list(builds._builds) == ["fourth"]


class Nested(Section):
    values: dict[str, int] = {}
    inner: list[dict[str, int]] = []


def test_settings_with_many_values_are_large_at_any_depth():
    assert not is_large(Nested())
    assert not is_large(Nested(values={str(number): number for number in range(200)}))
    assert is_large(Nested(values={str(number): number for number in range(400)}))
    assert is_large(Nested(inner=[{"a": 1, "b": 2} for _ in range(100)] * 2))


LARGE = {"values": {f"key{number}": number for number in range(400)}}


@pytest.mark.parametrize(
    ("path", "place", "step"),
    [
        ("/config/values", config, "written"),
        ("/explain/values", explain.Origins, "explain"),
        ("/explain", explain.Origins, "leaves"),
    ],
)
async def test_a_large_build_runs_once_and_other_requests_are_served_meanwhile(monkeypatch, path, place, step):
    async with site_of(Nested, LARGE) as site:
        real, work = getattr(place, step), Work()

        def slow(*arguments):
            work()
            return real(*arguments)

        monkeypatch.setattr(place, step, slow)
        asking = [asyncio.create_task(site.value(path)) for _ in range(2)]
        await until(lambda: work.threads)
        assert await site.value("/healthz") == {"status": "ok"}
        work.go_on.set()
        first, second = await asyncio.gather(*asking)
        assert first == second
        assert len(work.threads) == 1
