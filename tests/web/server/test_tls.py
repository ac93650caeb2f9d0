"""TLS contexts that change: a renewed certificate is used for new connections."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Annotated

import pytest

from hotconf import Content, HotConf, Options, Service, Settings, SignalRouter
from hotconf.web import Server
from tests.web.clients import client_of, serving, until


def renew(folder, name):
    """Make a certificate of this name, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj"
    for kind in ("key", "cert"):
        (folder / f"{kind}.new").unlink(missing_ok=True)
    files = ["-keyout", folder / "key.new", "-out", folder / "cert.new"]
    subprocess.run([*command.split(), f"/CN={name}", *files], check=True, capture_output=True)
    for kind in ("key", "cert"):
        (folder / f"{kind}.new").replace(folder / f"{kind}.pem")


@pytest.fixture
def folder(tmp_path):
    renew(tmp_path, "first")
    return tmp_path


def context_of(folder):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


TRUSTING = ssl.create_default_context()
TRUSTING.check_hostname, TRUSTING.verify_mode = False, ssl.CERT_NONE


def name_of(client):
    """The name in the certificate of a connection."""
    raw = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return next(name for name in ("first", "second", "third") if name.encode() in raw)


async def presented(server):
    async with client_of(server, ssl=TRUSTING) as client:
        assert (await client.get()).status == 200
        return name_of(client)


async def test_a_function_is_asked_for_each_new_connection_and_the_others_live_on(gates, folder):
    async with serving(gates.app(), ssl_context=lambda: context_of(folder)) as server:
        assert server.url.startswith("https://")
        async with client_of(server, ssl=TRUSTING) as old:
            assert (await old.get()).status == 200
            renew(folder, "second")
            assert await presented(server) == "second"
            assert (await old.get()).status == 200
            assert name_of(old) == "first"


async def test_a_context_that_cannot_be_built_leaves_the_last_one_in_use_and_is_logged_once(gates, folder, caplog):
    async with serving(gates.app(), ssl_context=lambda: context_of(folder)) as server:
        (folder / "cert.pem").write_text("no certificate")
        for _ in range(3):
            assert await presented(server) == "first"
        assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == [
            "ssl_context raised; the last context stays in use"
        ]
        renew(folder, "second")
        assert await presented(server) == "second"


@pytest.mark.parametrize("made", [None, "no context"])
async def test_a_start_without_a_context_fails_and_binds_nothing(gates, made):
    server = Server(gates.app(), port=0, ssl_context=lambda: made)
    with pytest.raises(TypeError, match="ssl_context returned"):
        await server.start()
    assert server.addresses == ()


async def test_a_server_that_starts_again_asks_again(gates, folder):
    server = Server(gates.app(), port=0, ssl_context=lambda: context_of(folder))
    await server.start()
    await server.stop()
    (folder / "cert.pem").write_text("no certificate")
    with pytest.raises(ssl.SSLError):
        await server.start()


# A function of the snapshot


class App(Settings):
    certificate: Annotated[Path, Content()]
    key: Annotated[Path, Content()]
    message: str = "hello"


def context_of_snapshot(snapshot):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(snapshot.settings.certificate, snapshot.settings.key)
    return context


@pytest.fixture
def conf(folder):
    file = folder / "app.toml"
    file.write_text(f'certificate = "{folder}/cert.pem"\nkey = "{folder}/key.pem"\n')
    return HotConf(App, files=[file], options=Options(watch=False))


class Running:
    """A service with one server, until the end of the block."""

    def __init__(self, gates, conf, ssl_context=context_of_snapshot):
        self.service = Service(conf, router=SignalRouter(()))
        self.server = Server(gates.app(), port=0, ssl_context=ssl_context)
        self.service.add(self.server)

    async def __aenter__(self):
        ready = asyncio.Event()
        self.service.on_ready(ready.set)
        self.serving = asyncio.create_task(self.service.serve())
        await ready.wait()
        return self.server

    async def __aexit__(self, *_):
        self.service.stop()
        assert await self.serving == 0


async def test_a_renewed_certificate_is_a_change_and_in_use_after_the_reload(gates, conf, folder):
    async with Running(gates, conf) as server, client_of(server, ssl=TRUSTING) as old:
        assert (await old.get()).status == 200
        renew(folder, "second")
        assert await presented(server) == "first", "not yet in force"
        report = await conf.reload()
        assert (report.outcome, set(report.changed)) == ("applied", {"certificate", "key"})
        assert await presented(server) == "second"
        assert (await old.get()).status == 200


async def test_a_renewed_certificate_is_seen_by_the_watch(gates, folder, conf):
    conf.amend([], watch=True)
    async with Running(gates, conf) as server:
        renew(folder, "second")
        await until(lambda: conf.snapshot.generation > 1)
        assert await presented(server) == "second"


async def test_a_certificate_that_does_not_fit_its_key_rejects_the_reload(gates, conf, folder):
    """As while a certificate is renewed: one file comes before the other."""
    async with Running(gates, conf) as server:
        key = (folder / "key.pem").read_bytes()
        renew(folder, "second")
        new_key = (folder / "key.pem").read_bytes()
        (folder / "key.pem").write_bytes(key)
        report = await conf.reload()
        assert (report.outcome, report.stage) == ("rejected", "prepare")
        assert "context_of_snapshot" in str(report.faults[0])
        assert await presented(server) == "first"
        (folder / "key.pem").write_bytes(new_key)
        assert (await conf.reload()).outcome == "applied"
        assert await presented(server) == "second"


async def test_a_start_with_a_broken_certificate_is_refused_like_any_configuration(gates, conf, folder, capsys):
    (folder / "cert.pem").write_text("no certificate")
    service = Service(conf, router=SignalRouter(()))
    service.add(Server(gates.app(), port=0, ssl_context=context_of_snapshot))
    assert await service.serve() == 2
    assert "context_of_snapshot" in capsys.readouterr().err


async def test_a_function_of_the_snapshot_needs_a_service_with_a_configuration(gates):
    with pytest.raises(ValueError, match="function of the snapshot: add the server to a Service"):
        await Server(gates.app(), port=0, ssl_context=context_of_snapshot).start()


async def test_a_function_without_a_parameter_may_read_the_configuration_itself(gates, conf, folder):
    async with Running(gates, conf, lambda: context_of_snapshot(conf.snapshot)) as server:
        assert await presented(server) == "first"
        renew(folder, "second")
        assert await presented(server) == "second", "the files are read at each connection"
