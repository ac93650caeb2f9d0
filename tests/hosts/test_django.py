"""Django: under gunicorn and uvicorn, with the commands of `manage.py`."""

import pytest

from tests.support import request, wait_until

PROJECT = """
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from hotconf.integrations.django import configuration, request_snapshot

conf = HotConf(App, files=["app.toml"], options=Options(**eval(os.environ.get("OPTIONS", "{'last_good': True}"))))


def root(request):
    return HttpResponse(f"{os.getpid()} {request_snapshot(request).settings.message}")


async def aroot(request):
    return HttpResponse(f"{os.getpid()} {request_snapshot(request).settings.message}")


def stream(request):
    snapshot = request_snapshot(request)
    assert configuration() is conf
    return StreamingHttpResponse(part for part in (snapshot.settings.message, str(conf.leased)))


settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="x",
    HOTCONF="project:conf",
    INSTALLED_APPS=["hotconf.integrations.django"],
    MIDDLEWARE=["hotconf.integrations.django.PinSnapshotMiddleware"],
    LOGGING_CONFIG=None,
)
urlpatterns = [path("", root), path("async", aroot), path("stream", stream)]
"""

SERVERS = "wsgi, asgi = get_wsgi_application(), get_asgi_application()\n"

MANAGE = """
import project
from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
say(project.conf.status.state)
"""


@pytest.fixture
def django(launch, tmp_path):
    def django(*words, **variables):
        scripts = {"project.py": PROJECT, "servers.py": "from project import *\n" + SERVERS, "manage.py": MANAGE}
        return launch(*words, scripts=scripts, STATE_DIRECTORY=str(tmp_path / "state"), **variables)

    return django


GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:0", "--no-control-socket")


def test_a_request_has_one_snapshot_and_reloads_are_seen(django):
    server = django(*GUNICORN, "servers:wsgi").listening()
    wait_until(lambda: server.message().endswith(" one"))
    assert request(server.port, "/").headers["hotconf-generation"] == "1"
    assert request(server.port, "/stream").text == "one{1: 1}"
    server.write("two")
    wait_until(lambda: server.message().endswith(" two"))
    assert request(server.port, "/stream").text == "two{2: 1}"
    assert server.terminate() == 0
    assert "Traceback" not in server.stderr.text


@pytest.mark.soak
def test_under_asgi(django):
    server = django("-m", "uvicorn", "--port", "0", "servers:asgi").listening()
    for path in ("/", "/async"):
        assert request(server.port, path).text == f"{server.pid} one"
    assert request(server.port, "/stream").text == "one{1: 1}"
    server.write("two")
    wait_until(lambda: request(server.port, "/async").text == f"{server.pid} two")
    server.terminate()
    assert "Traceback" not in server.stderr.text


@pytest.mark.soak
@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["each worker imports", "preload"])
def test_workers_outlive_a_broken_file(django, break_and_mend, options):
    server = django(*GUNICORN, "--workers", "2", *options, "servers:wsgi").listening()
    said = r"\(resume\): rejected" if options else "started from the last known good"
    break_and_mend(server, lambda _old, _users: server.hang_up(), said=said)
    assert server.terminate() == 0
    assert "Traceback" not in server.stderr.text


@pytest.mark.soak
def test_runserver(django):
    server = django("manage.py", "runserver", "0", "--noreload", PYTHONUNBUFFERED="1")
    found = server.stdout.find(r"server at http://127.0.0.1:(\d+)")
    assert found
    server.kill()


CHECK = pytest.param("check", "no issues", marks=pytest.mark.soak)


@pytest.mark.parametrize(("command", "said"), [CHECK, ("hotconf check", "App: no faults")])
def test_management_commands_start_no_engine(django, command, said):
    program = django("manage.py", *command.split())
    assert program.end() == 0, program.stderr.text
    assert said in program.stdout.text
    assert program.stdout.text.endswith("new\n")


@pytest.mark.parametrize("command", ["check", pytest.param("hotconf check", marks=pytest.mark.soak)])
def test_a_broken_file_is_shown_with_its_place(django, tmp_path, command):
    (tmp_path / "app.toml").write_text("message = [")
    program = django("manage.py", *command.split(), OPTIONS="{}")
    assert program.end() == 1
    assert "app.toml:1:12" in program.stderr.text
    assert "Traceback" not in program.stderr.text
