"""The dashboard and the alerts, against a real Prometheus that scrapes a real pool."""

import asyncio
import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import attrs
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, start_http_server

from aiophlo import Journal, PhloError, Quota, WarmTransfer
from aiophlo.observed_events import (
    HandoverEnded,
    HandoverStep,
    WebhookReceived,
    WebhookResult,
)
from aiophlo.simulator import Simulator
from aiophlo.telemetry import OpenTelemetry
from aiophlo.webhooks import MemberJoined
from tests.support.doubles import account_of, pool_of
from tests.support.ports import free_port

pytestmark = pytest.mark.long

GRAFANA: Final = Path(__file__).parents[2] / "docs" / "grafana"
DASHBOARD: Final = json.loads((GRAFANA / "aiophlo.json").read_text("utf-8"))
RULES: Final = GRAFANA / "alerts.yml"
TRANSFER: Final = WarmTransfer(
    phlo_id="p", node_id="n", trigger_source="+14155550100", to="+14155550101"
)
EXPRESSIONS: Final = [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="apt-get install prometheus"
)


@attrs.frozen
class Prometheus:
    """A Prometheus that runs.

    Attributes:
        url: Where its API is.
        session: Asks it.
    """

    url: str
    session: aiohttp.ClientSession

    async def ask(self, path: str, **query: str) -> Any:  # noqa: ANN401 -- JSON
        """Return the data of an answer; None while it isn't there."""
        with suppress(aiohttp.ClientError):
            async with self.session.get(f"{self.url}{path}", params=query) as answer:
                told = await answer.json()
            assert told["status"] == "success", told
            return told["data"]
        return None

    async def until_firing(self, *names: str) -> None:
        """Wait until these alerts fire."""
        async with asyncio.timeout(40.0):
            while True:
                data = await self.ask("/alerts")
                firing = {
                    alert["labels"]["alertname"]
                    for alert in (data or {}).get("alerts", ())
                    if alert["state"] == "firing"
                }
                if firing >= set(names):
                    return
                await asyncio.sleep(0.2)

    async def until_it_tells(self, query: str) -> None:
        """Wait until there is a number for a query: a rate needs two scrapes."""
        end = time.monotonic() + 40.0
        while time.monotonic() < end:
            data = await self.ask("/query", query=query)
            values = [float(one["value"][1]) for one in (data or {}).get("result", ())]
            if any(not math.isnan(value) for value in values):
                return
            await asyncio.sleep(0.2)
        pytest.fail(f"there is no number for {query}")


@pytest.fixture
def telemetry() -> Iterator[tuple[OpenTelemetry, int]]:
    """Give an observer, and the port at which its metrics are scraped."""
    registry = CollectorRegistry()
    meters = MeterProvider([PrometheusMetricReader(registry=registry)])
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield OpenTelemetry(None, meters), server.server_port
    server.shutdown()
    server.server_close()
    thread.join()
    meters.shutdown()


@pytest.fixture
async def prometheus(
    telemetry: tuple[OpenTelemetry, int], tmp_path: Path
) -> AsyncIterator[Prometheus]:
    """Run a Prometheus that scrapes them every second."""
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {
                "job_name": "calls",
                "static_configs": [{"targets": [f"127.0.0.1:{telemetry[1]}"]}],
            }
        ],
    }
    (tmp_path / "prometheus.yml").write_text(
        json.dumps(config), "utf-8"
    )  # JSON is YAML
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with aiohttp.ClientSession() as session:
        yield Prometheus(f"http://127.0.0.1:{port}/api/v1", session)
    process.terminate()
    await process.wait()


async def be_busy(simulator: Simulator, telemetry: OpenTelemetry, folder: Path) -> None:
    """Let everything happen of which there is a metric, for as long as it takes."""
    account = account_of(simulator, quota=Quota(300, per=5.0))
    simulator.answer_next(429)
    simulator.drop_next_answer(to="+14155560003")
    async with (
        pool_of(simulator, account, observers=[telemetry]) as pool,
        Journal(folder / "journal", observers=[telemetry]) as journal,
    ):
        telemetry(HandoverEnded(account, "unheard", "with_agent", 3.0, unseen=1))
        telemetry(WebhookReceived(None, result=WebhookResult.REFUSED))
        number = 0
        while True:
            number += 1
            transfers = [
                attrs.evolve(TRANSFER, to=f"+141555{number * 10 + index:05}")
                for index in range(3)
            ]
            with suppress(PhloError):
                await pool.send(attrs.evolve(TRANSFER, to=f"+1415556{number:04}"))
            await asyncio.gather(*(pool.send(TRANSFER) for _ in range(2)))
            async with pool.stream(transfers, journal=journal) as outcomes:
                assert len([outcome async for outcome in outcomes]) == 3
            simulator.answer_next(429)
            telemetry(WebhookReceived(MemberJoined()))
            telemetry(HandoverEnded(account, f"h{number}", "with_partner", 3.0))
            telemetry(HandoverStep(account, "held", "on_hold", "ringing"))
            await asyncio.sleep(0.3)


@needs_prometheus
async def test_every_panel_has_data_and_what_is_wrong_fires(
    prometheus: Prometheus,
    telemetry: tuple[OpenTelemetry, int],
    simulator: Simulator,
    tmp_path: Path,
) -> None:
    """A dashboard for other names is empty, and an alert for them is silent."""
    busy = asyncio.ensure_future(be_busy(simulator, telemetry[0], tmp_path))
    await prometheus.until_firing(
        "AiophloCustomerOnHold",
        "AiophloWebhooksDontArrive",
        "AiophloWebhooksRefused",
        "AiophloInDoubt",
        "AiophloQuotaEatenByOthers",
    )
    for expression in EXPRESSIONS:
        query = expression.replace("$__rate_interval", "10s").replace("$job", "calls")
        await prometheus.until_it_tells(query)
    assert not busy.done()
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)


@needs_prometheus
def test_rules_are_valid() -> None:
    """Prometheus would refuse to start with them."""
    checked = subprocess.run(  # noqa: S603 -- our own file
        ["promtool", "check", "rules", RULES],  # noqa: S607 -- the package's
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "9 rules found" in checked.stdout


PACE: Final = "aiophlo_pace_limit_per_second{%s}"
SENT: Final = 'http_client_request_duration_seconds_count{otel_scope_name="aiophlo",%s}'
UNHEARD: Final = 'aiophlo_handover_duration_seconds_count{error_type="no_webhook",%s}'
REFUSED: Final = 'aiophlo_webhook_received_total{aiophlo_result="refused",%s}'
IN_DOUBT: Final = (
    'aiophlo_client_operation_duration_seconds_count{aiophlo_verdict="in_doubt",%s}'
)
THROTTLED: Final = "aiophlo_throttled_total{%s}"


def hold_against(
    folder: Path, told: dict[str, str], expected: dict[str, float]
) -> None:
    """Hold what expressions are after 20 minutes against what is expected.

    Args:
        folder: Keeps the file that promtool reads.
        told: Values of each series, one for each half minute.
        expected: Value of each expression.
    """
    test = {
        "interval": "30s",
        "input_series": [
            {"series": series, "values": values} for series, values in told.items()
        ],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": "20m30s",
                "exp_samples": [{"labels": "{}", "value": value}],
            }
            for expression, value in expected.items()
        ],
    }
    file = folder / "test.yml"
    every = {"rule_files": [str(RULES)], "evaluation_interval": "30s"}
    file.write_text(json.dumps({**every, "tests": [test]}), "utf-8")  # JSON is YAML
    checked = subprocess.run(  # noqa: S603 -- our own file
        ["promtool", "test", "rules", file],  # noqa: S607 -- the package's
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_prometheus
@pytest.mark.parametrize(
    ("pods", "counted"),
    [
        ({"a": "_x40 1x10"}, 1),
        ({"a": "50x40 51x10"}, 1),
        ({"a": "50x39 stale 1x10"}, 1),
        ({"a": "50x36 stale _x2 1x10"}, 1),
        ({"a": "50x36 stale", "b": "_x40 1x10"}, 1),
        ({"a": "50x40 51x10", "b": "_x40 2x10"}, 3),
        ({"a": "50x50"}, 0),
        ({"a": "50x36 stale"}, 0),
        ({}, 0),
    ],
    ids=[
        *("first", "another", "restart", "slow restart", "other pod", "both pods"),
        *("none", "none since a restart", "never any"),
    ],
)
def test_what_comes_after_a_restart_is_counted(
    pods: dict[str, str], counted: int, tmp_path: Path
) -> None:
    """The deploy that breaks the webhooks also sets the counters to nought."""
    labels = {pod: f'job="calls",instance="{pod}"' for pod in "ab"}
    told = {PACE % labels["a"]: "60x50", SENT % labels["a"]: "0+30x50"}
    for series in (UNHEARD, REFUSED, IN_DOUBT, THROTTLED):
        told |= {series % labels[pod]: values for pod, values in pods.items()}
    firing = {
        f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
        for name in (
            *("AiophloWebhooksDontArrive", "AiophloWebhooksRefused"),
            *("AiophloInDoubt", "AiophloQuotaEatenByOthers"),
        )
    }
    figures = {
        panel["targets"][0]["expr"].replace("$job", "calls")
        for panel in DASHBOARD["panels"]
        if panel["title"].endswith("ten minutes")
    }
    assert len(figures) == 2
    expected = dict.fromkeys(firing, float(counted > 0))
    hold_against(tmp_path, told, expected | dict.fromkeys(figures, float(counted)))


def test_rules_and_panels_name_metrics_that_there_are() -> None:
    """Of what fires only after minutes, the names are at least the documented ones."""
    page = (GRAFANA.parent / "reference" / "telemetry.md").read_text("utf-8")
    documented = re.findall(r"^\| `([a-z_.]+)` \| (\S+)", page, re.MULTILINE)
    known = {name.replace(".", "_") for name, _ in documented}
    text = RULES.read_text("utf-8") + " ".join(EXPRESSIONS)
    named = re.findall(r"\b(?:aiophlo|http_client)_[a-z_]+(?=[{)])", text)
    labels = {"aiophlo_lane", "aiophlo_verdict", "aiophlo_phase", "aiophlo_action"}
    endings = r"_(?:seconds_(?:count|bucket)|total|per_second)$"
    assert len(set(named)) > 12
    for name in {*named} - labels - {"aiophlo_result", "aiophlo_event"}:
        assert re.sub(endings, "", name) in known, name
