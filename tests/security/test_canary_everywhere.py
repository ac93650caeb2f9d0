"""I11: of a class without any mark, no verb, endpoint, log line or file shows a secret.

Its secrets are plain strings, URLs, headers, keys of mappings and keys that the class does not know; they come from
files, from the environment and from defaults. Each says `hunter2`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

APP = """
from typing import Any
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings

class Smtp(BaseModel):
    host: str = "mail"
    password: str = "hunter2-default"

class Mail(BaseSettings):
    model_config = {"env_prefix": "MAIL_"}
    token: str = "none"

class App(BaseSettings):
    model_config = {"extra": "allow", "env_prefix": "APP_", "env_nested_delimiter": "__", "env_file": ".env"}
    name: str = "a"
    api_key: str = ""
    db_password: str = Field("hunter2-default", description="of the database")
    database_url: str = "postgres://u:hunter2-default@h/db"
    redis: str = "redis://:hunter2-default@r/0"
    headers: dict[str, str] = {"Authorization": "Bearer hunter2-default", "Accept": "x"}
    smtp: Smtp = Smtp()
    mail: Mail = Field(default_factory=Mail)
    port: int = 1
    items: list[Smtp] = []
    anything: Any = None
"""
GOOD = """
name = "n"
api_key = "hunter2-file"
database_url = "postgres://u:hunter2-file@h/db?token=hunter2-query"
extra_secret = "hunter2-extra"
anything = {private_key = "hunter2-any", url = "amqp://a:hunter2-any@q", "https://u:hunter2-key@x" = 1}
items = [{password = "hunter2-item"}]
[headers]
Authorization = "Bearer hunter2-file"
X-Api-Key = "hunter2-header"
"""
WRONG = """
port = "hunter2-port"
db_password = ["hunter2-list"]
smtp = "hunter2-text"
items = [{pasword = "hunter2-misspelt"}]
"""
BROKEN = 'db_password = "hunter2-broken\nx'
FILES = {
    "app.py": APP,
    "app.toml": GOOD,
    "other.toml": GOOD.replace("hunter2", "hunter2o"),
    "wrong.toml": WRONG,
    "broken.toml": BROKEN,
    ".env": "APP_SMTP__PASSWORD=hunter2-dotenv\n",
}
PATHS = (
    *("db_password", "api_key", "database_url", "headers", "smtp", "mail", "items", "anything", "extra_secret"),
    *("mail.token", "items.0.password"),
)
NOTATIONS = ("toml", "yaml", "json")
VERBS = [
    *(
        ["show", *target, "--format", style]
        for style in NOTATIONS
        for target in (["app:App", "app.toml"], ["app.toml"])
    ),
    *(["show", "app:App", "app.toml", "--origins", "--format", style] for style in NOTATIONS),
    *(["init", "app:App", *PATHS[:5], "--format", style] for style in (*NOTATIONS, "env", "markdown")),
    ["schema", "app:App"],
    *(["explain", "app:App", "app.toml", path] for path in PATHS),
    *(["check", *target, file] for file in FILES if file.endswith("toml") for target in (["app:App"], [])),
    ["check", "app:App", "wrong.toml", "--format", "github"],
    ["check", "app:App", "app.toml", "--unknown", "error"],
    ["diff", "app:App", "app.toml", "other.toml"],
    ["diff", "app.toml", "other.toml"],
]
ENDPOINTS = (
    *("config", "config/headers", "config/db_password", "config/anything", "status", "reloads", "history", "history/1"),
    *(
        "history/2",
        "explain",
        "explain/db_password",
        "explain/mail/token",
        "schema",
        "openapi.json",
        "metrics",
        "readyz",
    ),
)
PATCHES = (
    {"db_password": "hunter2-patch"},
    {"database_url": "postgres://u:hunter2-patch@h"},
    {"port": "hunter2-patch"},
    {"mail": {"token": "hunter2-patch"}},
    {"items": [{"password": "hunter2-patch"}]},
    {"anything": {"https://u:hunter2-patch@x": 1}},
    {"name": "fine"},
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    given = {"APP_DB_PASSWORD": "hunter2-variable", "MAIL_TOKEN": "hunter2-variable", "PYTHONPATH": str(tmp_path)}
    for name, text in {**given, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}.items():
        monkeypatch.setenv(name, text)
    return tmp_path


def run(*words):
    done = subprocess.run([sys.executable, "-m", "hotconf", *words], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def ask(url, method="GET", body=None, **headers):
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read().decode()
    except urllib.error.HTTPError as error:
        assert error.code < 500
        return error.read().decode()


def assert_harmless(said):
    shown = {what: text[max(0, text.find("hunter2") - 99) :][:200] for what, text in said.items() if "hunter2" in text}
    assert shown == {}


@pytest.mark.soak
def test_I11_no_verb_on_files_shows_a_secret_of_an_unmarked_class(folder):
    said = {" ".join(words): run(*words) for words in VERBS}
    assert_harmless(said)
    assert '"n"' in said["show app:App app.toml --format json"]


@pytest.mark.soak
def test_I11_no_process_shows_or_writes_a_secret_of_an_unmarked_class(folder):
    log, file = folder / "log", folder / "app.toml"
    words = ["app:App", "app.toml", "--port", "0", "--overlay", "overlay.toml", "--last-good", "good.json"]
    with log.open("w") as stream:
        service = subprocess.Popen([sys.executable, "-m", "hotconf", "serve", *words], stdout=stream, stderr=stream)
    said = {}
    try:
        while (found := re.search(r"http://[\d.]+:\d+", log.read_text())) is None:
            assert service.poll() is None, log.read_text()
        url = found[0]
        for number, text in enumerate((GOOD.replace("hunter2", "hunter2n"), WRONG, BROKEN, GOOD)):
            file.write_text(text)
            said[f"reload {number}"] = run("reload", url)
        for path in ENDPOINTS:
            said[path] = ask(f"{url}/{path}")
        for notation in NOTATIONS:
            said[f"config as {notation}"] = ask(f"{url}/config", Accept=f"application/{notation}")
        for patch in PATCHES:
            kind = {"Content-Type": "application/merge-patch+json", "If-Match": "*"}
            said[f"patch {list(patch)}"] = ask(f"{url}/config", "PATCH", json.dumps(patch).encode(), **kind)
        for verb in (["show", url], ["history", url], ["explain", url, "headers"], ["set", url, "api_key=hunter2-set"]):
            said[verb[0]] = run(*verb)
        said["against"] = run("check", "app:App", "wrong.toml", "--against", url)
        said["rollback"] = run("rollback", url, "1")
    finally:
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
    written = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    said |= {str(path): path.read_text() for path in written if path.name not in FILES}
    assert_harmless(said)
    assert {"log", "overlay.toml", "good.json"} <= set(os.listdir(folder))
    assert "fine" in (folder / "overlay.toml").read_text()
