"""The example unit and manifest fit the program: options, paths, periods, and the responses to probes."""

import configparser
import inspect
import re
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import PurePosixPath

import pytest
import yaml

from hotconf.cli.demo import demo as demo_command
from hotconf.demo.service import Demo as DemoSettings, demo_conf
from hotconf.process.service import CLOSING, EXIT_CONFIGURATION, Service
from hotconf.web.server.server import Server
from tests.support import ROOT, Demo, require_tool, wait_until

EXAMPLES = ROOT / "examples"
MARGIN = 1  # second, for the supervisor itself
POD_IP = "10.1.2.3"


def parsed(words):
    """The parameters of the demo for a command line. Raises click's UsageError for an unknown option."""
    return demo_command.make_context("demo", list(words), resilient_parsing=False).params


def default(option):
    return parsed([])[option]


def longest_stop(options):
    """Seconds from the signal to the last instruction; the shutdown delay is a part of the grace period."""
    assert options["shutdown_delay"] <= options["grace_period"]
    return options["grace_period"] + CLOSING


def test_drain_has_the_defaults_that_the_operators_manual_says():
    table = re.findall(
        r"\| ([\d.]+) s\b.*: `(\w+)\((\w+)=\)`", (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    )
    said = {(owner, option): float(seconds) for seconds, owner, option in table}
    owners = {"Service": Service, "Server": Server}
    true = {key: inspect.signature(owners[key[0]]).parameters[key[1]].default for key in said}
    assert said == true
    assert {option for _, option in said} >= {"grace_period", "shutdown_delay", "closing_period", "idle_linger"}


# systemd


@pytest.fixture(scope="module")
def unit():
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str
    parser.read_string((EXAMPLES / "hotconf.service").read_text(encoding="utf-8"))
    return parser


def test_unit_uses_the_protocol_of_the_service(unit):
    service = unit["Service"]
    assert service["Type"] == "notify-reload"
    assert "ExecReload" not in service, "the type has a reload of its own"
    assert "PIDFile" not in service
    assert float(service["WatchdogSec"]) > 1


def test_unit_starts_an_existing_command(unit):
    program, verb, *words = shlex.split(unit["Service"]["ExecStart"])
    assert PurePosixPath(program).is_absolute()
    assert (PurePosixPath(program).name, verb) == ("hotconf", demo_command.name)
    assert parsed(words)["config"].is_absolute()


def test_unit_has_no_key_that_systemd_does_not_know(tmp_path):
    analyze = require_tool("systemd-analyze")
    copy = tmp_path / "hotconf.service"
    text = (EXAMPLES / "hotconf.service").read_text(encoding="utf-8")
    copy.write_text(text.replace("ExecStart=/usr/bin/hotconf", f"ExecStart={sys.executable} -m hotconf"))
    command = [analyze, "verify", "--man=no", copy]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stderr
    # One that is older than 253 says so of the type.
    assert "Unknown key" not in said
    assert "is not executable" not in said


def test_unit_leaves_time_to_drain_and_sends_the_signal_to_the_main_process(unit):
    service = unit["Service"]
    options = parsed(shlex.split(service["ExecStart"])[2:])
    assert float(service["TimeoutStopSec"]) >= longest_stop(options) + MARGIN
    assert service["KillMode"] == "mixed", "children must not be told to stop while we still answer"
    assert "KillSignal" not in service
    assert "SendSIGHUP" not in service


def test_unit_does_not_start_a_refused_configuration_again(unit):
    service = unit["Service"]
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"].split() == [str(EXIT_CONFIGURATION)]


# Kubernetes


@pytest.fixture(scope="module")
def manifest():
    """The manifest's documents, by kind."""
    documents = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}


@pytest.fixture(scope="module")
def pod(manifest):
    return manifest["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod):
    (only,) = pod["containers"]
    return only


@pytest.fixture(scope="module")
def options(container):
    verb, *words = container["args"]
    assert verb == demo_command.name
    return parsed(words)


def test_termination_grace_period_covers_the_drain(pod, container, options):
    before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod["terminationGracePeriodSeconds"] >= before + longest_stop(options) + MARGIN
    assert options["grace_period"] == default("grace_period")
    assert options["shutdown_delay"] >= 5, "the time in which endpoints learn that we leave"


def test_probes_and_command_speak_of_one_port(container, options):
    (port,) = [port["containerPort"] for port in container["ports"]]
    probes = [container[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert {probe["httpGet"]["port"] for probe in probes} == {port} == {options["port"]}


def test_configuration_and_token_are_where_the_command_looks_for_them(manifest, pod, container, options):
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert not any("subPath" in mount for mount in mounts.values()), "those are never updated"
    config = volumes[mounts[str(options["config"].parent)]["name"]]
    assert config["configMap"]["name"] == manifest["ConfigMap"]["metadata"]["name"]
    assert options["config"].name in manifest["ConfigMap"]["data"]
    assert "secret" in volumes[mounts[str(options["token_file"].parent)]["name"]]


def test_labels_find_the_pods(manifest):
    spec = manifest["Deployment"]["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_sample_configuration_is_one(manifest, tmp_path):
    path = tmp_path / "demo.toml"
    path.write_text(manifest["ConfigMap"]["data"]["demo.toml"], encoding="utf-8")
    conf = demo_conf(path)
    conf.load()
    assert isinstance(conf.current, DemoSettings)


# What a kubelet does, against the process that the manifest starts


class Mount:
    """A folder as the kubelet keeps it: `..data` is a link, replaced by a rename, to a folder with the files."""

    def __init__(self, folder, files):
        self.folder = folder
        self._generation = 0
        self.publish(files)
        for name in files:
            (folder / name).symlink_to(f"..data/{name}")

    def publish(self, files):
        self._generation += 1
        fresh = self.folder / f"..generation_{self._generation}"
        fresh.mkdir()
        for name, text in files.items():
            (fresh / name).write_text(text, encoding="utf-8")
        link = self.folder / "..data_tmp"
        link.symlink_to(fresh.name)
        link.replace(self.folder / "..data")


@pytest.fixture(scope="module")
def deployed(manifest, container, options, tmp_path_factory):
    """The container's process, with its mounts in a folder of the test and a port of the kernel's choice."""
    folder = tmp_path_factory.mktemp("pod")
    mount = Mount(folder, manifest["ConfigMap"]["data"])
    token = folder / "token"
    token.write_text("open sesame\n")
    process = Demo(
        folder,
        *("--host", options["host"], "--token-file", token),
        *("--shutdown-delay", options["shutdown_delay"], "--grace-period", options["grace_period"]),
    )
    try:
        yield process.ready(), mount
    finally:
        process.kill()


def probe(port, path):
    """One probe as a kubelet sends it. Returns the status."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {POD_IP}:{port}",
        "User-Agent: kube-probe/1.31",
        "Accept: */*",
        "Connection: close",
        "",
        "",
    ]
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as sock:
        sock.sendall("\r\n".join(lines).encode())
        answer = b""
        while data := sock.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert body
    return int(head.split()[1])


def statuses(container, port):
    names = ("startupProbe", "readinessProbe", "livenessProbe")
    return [probe(port, container[name]["httpGet"]["path"]) for name in names]


def test_probes_pass_without_token_and_with_the_hosts_address(deployed, container):
    process, _ = deployed
    assert statuses(container, process.port) == [200, 200, 200]
    assert probe(process.port, "/status") == 403, "all else is guarded"


def test_edit_of_the_config_map_arrives(deployed):
    process, mount = deployed
    mount.publish({"demo.toml": 'message = "After"\n'})
    headers = {"Authorization": "Bearer open sesame"}
    wait_until(lambda: process.get(headers=headers).text == "After")


def test_draining_is_not_ready_and_alive(deployed, container):
    """While the endpoints still lead here."""
    process, _ = deployed
    process.send(signal.SIGTERM)
    process.stderr.find("draining: SIGTERM")
    assert statuses(container, process.port)[1:] == [503, 200]
    assert process.alive
