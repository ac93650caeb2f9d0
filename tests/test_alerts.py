"""The alert rules of docs/operating.md, and their metrics, checked by Prometheus's own tool."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from hotconf import HotConf, Options, Section
from hotconf.metrics import Metrics
from hotconf.sources import Memory
from tests.support import ROOT, require_tool

RULES = re.search(r"```yaml\n# alerts\.yaml\n(.*?)```", (ROOT / "docs" / "operating.md").read_text(), re.DOTALL)[1]
GOOD = "hotconf_config_last_reload_successful"


class App(Section):
    message: str = "hello"


def promtool(*words, **options):
    done = subprocess.run([require_tool("promtool"), *words], capture_output=True, check=False, **options)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "alerts.yaml"
    path.write_text(RULES)
    return path


async def exposition():
    conf = HotConf(App, sources=[Memory({})], options=Options(watch=False))
    metrics = Metrics(conf, watchers=lambda: {"poll": 1, "stream": 0})
    async with conf.running(signals=()):
        await conf.reload()
        return metrics.exposition()


async def test_promtool_accepts_the_metrics():
    promtool("check", "metrics", input=await exposition())


async def test_every_alert_uses_metrics_that_exist(rules):
    promtool("check", "rules", str(rules))
    there = (await exposition()).decode()
    for rule in yaml.safe_load(RULES)["groups"][0]["rules"]:
        names = re.findall(r"hotconf_\w+", rule["expr"])
        assert names
        assert all(re.search(rf"^{name}[ {{]", there, re.MULTILINE) for name in names), rule["expr"]


# An alert, its series minute by minute, when it is silent, when it fires, and with which labels.
CASES = {
    "ConfigurationRejected": (
        {f'{GOOD}{{job="web", instance="a"}}': "1 0x30"},
        ("5m", "6m"),
        {"job": "web", "instance": "a"},
    ),
    "ConfigurationWaitsForRestart": (
        {'hotconf_pending_restart{instance="a"}': "0 1x2000"},
        ("23h", "24h1m"),
        {"instance": "a"},
    ),
    "ConfigurationSourceStale": (
        {'hotconf_source_stale{source="app.toml"}': "0 1x30", 'hotconf_source_stale{source="env"}': "0x31"},
        ("15m", "16m"),
        {"source": "app.toml"},
    ),
    "ConfigurationDiffers": (
        {f'{GOOD}{{job="web", instance="a"}}': "1x31", f'{GOOD}{{job="web", instance="b"}}': "1 0x30"},
        ("10m", "11m"),
        {"job": "web"},
    ),
}


def scenario(name, rules, annotations):
    series, (silent_at, fires_at), labels = CASES[name]
    alert = {"exp_labels": labels, "exp_annotations": annotations}
    return {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": metric, "values": values} for metric, values in series.items()],
                "alert_rule_test": [
                    {"eval_time": silent_at, "alertname": name, "exp_alerts": []},
                    {"eval_time": fires_at, "alertname": name, "exp_alerts": [alert]},
                ],
            }
        ],
    }


def annotations_of(rule, labels):
    """The texts of a rule, as Prometheus fills them in."""
    texts = rule.get("annotations", {})
    return {key: re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels[found[1]], text) for key, text in texts.items()}


@pytest.mark.parametrize("rule", yaml.safe_load(RULES)["groups"][0]["rules"], ids=lambda rule: rule["alert"])
def test_an_alert_fires_in_its_time_and_not_before(rule, rules, tmp_path):
    name = rule["alert"]
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(scenario(name, rules, annotations_of(rule, CASES[name][2]))))
    promtool("test", "rules", str(path))
