"""Without any option too, clients leave the process what it needs to go on."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys

from tests.support import HOTCONF, Process, environment

DESCRIPTORS = 160


def test_connections_leave_descriptors_for_reloads_and_patches(tmp_path):
    (tmp_path / "app.toml").write_text('message = "one"\n')
    (tmp_path / "app.py").write_text("import hotconf\n\n\nclass App(hotconf.Settings):\n    message: str = 'm'\n")
    serve = (*HOTCONF, "serve", "app:App", "app.toml", "--port", "0", "--overlay", "o.toml", "--no-watch")
    limited = ("sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh", *serve)
    env = environment()
    process = Process(limited, cwd=tmp_path, env={**env, "PYTHONPATH": f"{tmp_path}:{env['PYTHONPATH']}"})
    connections = []
    try:
        port = int(process.stdout.find(r"http://127\.0\.0\.1:(\d+)")[1])

        def connect():
            connections.append(http.client.HTTPConnection("127.0.0.1", port, timeout=20))
            connections[-1].connect()
            return connections[-1]

        writer = connect()
        for _ in range(DESCRIPTORS):
            connect()
        assert connections[-1].sock.recv(12) == b"HTTP/1.1 503"
        (tmp_path / "app.toml").write_text('message = "two"\n')
        process.send(signal.SIGHUP)
        process.stderr.find(r"SIGHUP\): applied")
        headers = {"If-Match": "*", "Content-Type": "application/json"}
        writer.request("PATCH", "/config", body=json.dumps({"message": "three"}), headers=headers)
        answer = writer.getresponse()
        assert (answer.status, json.load(answer)["outcome"]) == (200, "applied")
        process.send(signal.SIGTERM)
        assert process.end() == 0
    finally:
        for connection in connections:
            connection.close()
        process.kill()


def test_no_patch_needs_an_import():
    code = "import sys, hotconf.web; assert 'hotconf.formats.json' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment(), timeout=60)
