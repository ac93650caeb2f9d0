"""The client of etcd's JSON gateway, with a real server."""

import asyncio
import contextlib
import subprocess

import pytest

from hotconf.sources.etcd_gateway import PERMISSION_DENIED, EtcdError, Gateway
from hotconf.testing.faults import EtcdServer, free_port
from tests.sources.remote.servers import serving


@pytest.fixture(scope="module")
def etcd(tmp_path_factory):
    with serving(EtcdServer, tmp_path_factory) as server:
        yield server


@pytest.fixture
async def gateway(etcd):
    async with Gateway(etcd.url) as client:
        yield client


async def test_a_key_is_written_read_and_deleted(gateway):
    revision = await gateway.put("a", b"\0one")
    found = await gateway.range("a")
    assert [(key.key, key.value, key.mod_revision) for key in found.keys] == [("a", b"\0one", revision)]
    assert found.revision >= revision
    await gateway.delete("a")
    assert (await gateway.range("a")).keys == ()


async def test_a_prefix_is_read_at_one_revision(gateway):
    for key in ("tree/a", "tree/b", "treetop"):
        await gateway.put(key, key.encode())
    found = await gateway.range("tree/", prefix=True)
    assert [key.key for key in found.keys] == ["tree/a", "tree/b"]
    assert all(not key.value for key in (await gateway.range("tree/", prefix=True, keys_only=True)).keys)


async def test_a_swap_takes_place_only_on_the_expected_revision(gateway):
    first = await gateway.swap("swapped", b"1", expect=0)
    assert first
    assert await gateway.swap("swapped", b"2", expect=0) is None
    assert await gateway.swap("swapped", b"2", expect=first) > first
    assert (await gateway.range("swapped")).keys[0].value == b"2"


async def test_a_lease_keeps_its_keys_until_it_is_revoked(gateway):
    lease = await gateway.grant(60)
    await gateway.put("leased", b"1", lease=lease)
    assert (await gateway.range("leased")).keys[0].lease == lease
    assert 0 < await gateway.keep_alive(lease) <= 60
    await gateway.revoke(lease)
    assert (await gateway.range("leased")).keys == ()
    assert await gateway.keep_alive(lease) == 0


async def test_a_watch_tells_every_change_from_a_revision_on(gateway):
    first = await gateway.put("watched", b"1")
    await gateway.put("watched", b"x" * 300_000)
    await gateway.delete("watched")
    async with asyncio.timeout(10), contextlib.aclosing(gateway.watch("watched", start=first)) as messages:
        created = await anext(messages)
        assert created.created
        assert created.cluster == (await gateway.range("watched")).cluster
        put, deleted = [], []
        while not deleted:
            message = await anext(messages)
            put += [key.value for key in message.put]
            deleted += [key.key for key in message.deleted]
    assert (put, deleted) == ([b"1", b"x" * 300_000], ["watched"])


async def test_a_watch_of_what_was_compacted_says_so(gateway):
    old = await gateway.put("compacted", b"1")
    new = await gateway.put("compacted", b"2")
    await gateway.call("kv/compaction", {"revision": str(new)})
    messages = [message async for message in gateway.watch("compacted", start=old)]
    assert messages[-1].compacted == new


async def test_what_is_out_of_reach_has_no_code(gateway):
    async with Gateway(f"http://127.0.0.1:{free_port()}") as away:
        with pytest.raises(EtcdError, match="Connection refused") as raised:
            await away.range("a")
        assert raised.value.code is None
    with pytest.raises(EtcdError) as raised:
        await gateway.call("kv/put", {"key": "not base64!"})
    assert raised.value.code is not None


async def test_the_endpoint_that_answers_is_found(etcd):
    gateway = Gateway([f"127.0.0.1:{free_port()}", etcd.address, f"http://127.0.0.1:{free_port()}"])
    async with gateway:
        await gateway.range("a")
        assert gateway.endpoints[0] == etcd.url


async def test_a_frozen_endpoint_is_left_in_time(etcd, tmp_path_factory):
    with serving(EtcdServer, tmp_path_factory) as other:
        async with Gateway([etcd.url, other.url], timeout=1) as gateway:
            gateway.endpoints.sort(key=lambda url: url != etcd.url)
            etcd.freeze()
            try:
                async with asyncio.timeout(20):
                    await gateway.range("a")
                    with pytest.raises(EtcdError, match="no response in time"):
                        gateway.endpoints.reverse()
                        await gateway.put("a", b"may have arrived")
            finally:
                etcd.thaw()


def etcdctl(server, *words):
    subprocess.run(
        ["etcdctl", "--endpoints", server.url, *words], check=True, capture_output=True, env={"ETCDCTL_API": "3"}
    )


async def test_users_authenticate_with_a_file_that_is_read_again(tmp_path, tmp_path_factory):
    secret = tmp_path / "password"
    secret.write_text("first\n")
    with serving(EtcdServer, tmp_path_factory, "--auth-token-ttl", "1") as server:
        for words in (
            "user add root:first",
            "user add web:first",
            "role add reads",
            "role grant-permission reads read shop/ --prefix=true",
            "user grant-role web reads",
            "user grant-role root root",
            "auth enable",
        ):
            etcdctl(server, *words.split())
        async with Gateway(server.url) as anonymous:
            with pytest.raises(EtcdError, match="user name is empty"):
                await anonymous.range("shop/a")
        async with Gateway(server.url, username="web", password_file=secret) as gateway:
            assert (await gateway.range("shop/a")).keys == ()
            with pytest.raises(EtcdError) as raised:
                await gateway.range("other")
            assert raised.value.code == PERMISSION_DENIED
            with pytest.raises(EtcdError) as raised:
                async for _ in gateway.watch("other"):
                    pass
            assert raised.value.code == PERMISSION_DENIED
            await asyncio.sleep(2.2)  # the token has ended
            assert (await gateway.range("shop/a")).keys == ()
            secret.write_text("")
            gateway._token = None
            with pytest.raises(EtcdError, match="password file cannot be read: password is empty"):
                await gateway.range("shop/a")


@pytest.mark.parametrize("endpoint", ["http://user:secret@host:1", "ftp://host", "", "http://[", "https://"])
def test_an_endpoint_is_a_url_without_a_password(endpoint):
    with pytest.raises(ValueError) as raised:
        Gateway(endpoint)
    assert "secret" not in str(raised.value)


def test_user_and_password_belong_together():
    with pytest.raises(ValueError, match="belong together"):
        Gateway("http://host", username="web")


def test_files_of_tls_mean_https(tmp_path):
    assert Gateway("host:1", ca_file=tmp_path / "ca.pem").endpoints == ["https://host:1"]
