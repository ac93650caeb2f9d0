"""Documents that live elsewhere, by their URLs: wherever a verb takes a file, and `hotconf put`."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hotconf.cli.documents import Credentials, document_at, is_document
from hotconf.cli.target import is_target, is_url
from hotconf.testing.faults import EtcdServer, NatsServer, RedisServer, free_port
from tests.cli.verbs import GOOD
from tests.sources.remote.servers import serving

SERVERS = {EtcdServer: "etcd://{}/", NatsServer: "nats://{}/conf/", RedisServer: "redis://{}/0/"}


@pytest.fixture(scope="module", params=SERVERS, ids=lambda server: server.program)
def base(request, tmp_path_factory):
    """What the URL of a document begins with."""
    with serving(request.param, tmp_path_factory) as server:
        yield SERVERS[request.param].format(server.address)


@pytest.fixture
def files(folder):
    (folder / "app.toml").write_text(GOOD)
    (folder / "bad.toml").write_text("[database]\nurl = 5\n")
    return folder


def test_what_was_put_is_checked_shown_explained_and_compared(verb, files, base):
    url = f"{base}shop/app.toml"
    written = verb("put", url, "app.toml", "--target", "app:App")
    assert (written.code, written.err) == (0, "")
    assert ": revision " in written.out
    assert verb("check", "app:App", url).code == 0
    shown = json.loads(verb("show", "app:App", url, "--format", "json").out)
    assert shown["message"] == "hi"
    name = document_at(url, Credentials()).name
    assert f"from {name}:1:1" in verb("explain", "app:App", url, "message").out
    assert verb("diff", "--exit-code", "app:App", "app.toml", url).code == 0
    assert json.loads(verb("show", url, "--format", "json").out)["message"] == "hi"


def test_a_document_with_faults_is_not_written(verb, files, base):
    url = f"{base}bad.toml"
    refused = verb("put", url, "bad.toml", "--target", "app:App")
    assert refused.code == 1
    assert "bad.toml:2:1: database.url" in refused.err
    assert verb("check", url).code == 1, "nothing was written"


def test_settings_that_other_files_have_may_be_missing(verb, files, base):
    (files / "part.toml").write_text('message = "part"\n')
    assert verb("put", f"{base}part.toml", "part.toml", "--target", "app:App").code == 1
    assert verb("put", f"{base}part.toml", "part.toml", "--target", "app:App", "--partial").code == 0


def test_of_two_writers_the_second_is_refused(verb, files, base):
    url = f"{base}once.toml"
    if base.startswith("redis"):
        refused = verb("put", url, "app.toml", "--if-revision", "0")
        assert (refused.code, "Redis counts no revisions" in refused.err) == (2, True)
        return
    first = json.loads(verb("put", url, "app.toml", "--if-revision", "0", "--format", "json").out)["revision"]
    refused = verb("put", url, "app.toml", "--if-revision", "0")
    assert (refused.code, "does not have revision 0 any more" in refused.err) == (1, True)
    assert verb("put", url, "app.toml", "--if-revision", first).code == 0


def test_a_server_that_is_away_is_named(verb, files):
    url = f"etcd://127.0.0.1:{free_port()}/app.toml"
    checked = verb("check", url)
    assert checked.code == 1
    assert "etcd:app.toml: cannot be read: " in checked.out
    written = verb("put", url, "app.toml")
    assert (written.code, "cannot be written: " in written.err) == (1, True)


@pytest.mark.parametrize(
    "words",
    [
        ("http://host/app.toml", "app.toml"),
        ("app.toml", "app.toml"),
        ("etcd://host/tree/", "app.toml"),
        ("etcd://host/app.yaml", "app.toml"),
        ("etcd://host/app", "app.toml"),
        ("etcd://host/app.toml", "absent.toml"),
        ("etcd://host/app.toml", "app.toml", "--target", "app"),
        ("redis://host/app.toml", "app.toml"),
    ],
)
def test_put_refuses_what_it_cannot_write(verb, files, words):
    assert verb("put", *words).code == 2


@pytest.mark.parametrize("scheme", ["etcd", "etcds", "nats", "tls", "redis", "rediss", "https"])
def test_a_password_in_a_url_is_refused_and_not_printed(verb, files, scheme):
    result = verb("check", f"{scheme}://user:hunter2@host/0/app.toml")
    assert result.code == 2
    assert "must not hold a password" in result.err
    assert "hunter2" not in result.err + result.out


@pytest.mark.parametrize(
    ("word", "kinds"),
    [
        ("etcd://host/a.toml", "document"),
        ("https://host/a.yaml?x=1", "document"),
        ("https://host/config", "process"),
        ("http://host:8080", "process"),
        ("unix:/run/a.sock", "process"),
        ("app:App", "target"),
    ],
)
def test_a_word_is_one_thing(word, kinds):
    found = {"document": is_document(word), "process": is_url(word), "target": is_target(word)}
    assert [name for name, holds in found.items() if holds] == [kinds]


def test_the_options_of_a_server_reach_its_source(tmp_path):
    password = tmp_path / "password"
    password.write_text("right")
    source = document_at("etcd://a,b:1/x.toml", Credentials(username="web", password_file=str(password)))
    gateway = source._new_gateway()
    assert sorted(gateway.endpoints) == ["http://a:2379", "http://b:1"]
    assert (gateway._username, asyncio.run(gateway._password.read())) == ("web", "right")
    files = Credentials(ca_file="ca.pem", cert_file="cert.pem", key_file="key.pem")
    assert document_at("etcds://a/x.toml", files)._new_gateway().endpoints == ["https://a:2379"]


@pytest.mark.parametrize("option", ["--username", "--password-file", "--ca-file", "--cert-file", "--key-file"])
def test_verbs_take_the_options_of_servers(verb, files, option):
    for words in (("check", "app.toml"), ("show", "app.toml"), ("diff", "app.toml", "app.toml")):
        assert verb(*words, option, "app.toml").code == 0


def test_a_file_behind_http(verb, files):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(GOOD.encode())

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/app.toml"
        assert verb("check", "app:App", url).code == 0
        assert f"from {url}:1:1" in verb("explain", "app:App", url, "message").out
    finally:
        server.shutdown()
        server.server_close()
