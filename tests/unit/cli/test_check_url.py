"""``check URL``: what is said of a server by its answers."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from gunicorn_prom_hooks.cli.check.page import FAMILIES
from gunicorn_prom_hooks.cli.check.url import check_url
from gunicorn_prom_hooks.cli.client import Access, Client, Target
from gunicorn_prom_hooks.cli.findings import exit_code, lines_of
from tests.helpers.page_server import OPENMETRICS, TEXT, Reply, metrics, page_server
from tests.helpers.servers import unused_port


def check(replies: Mapping[str, Reply] | None = None, interval: float = 15.0) -> tuple[int, list[str]]:
    """Return exit code and lines for a server with these replies."""
    with page_server(replies) as pages:
        facts, findings = check_url(Client(Target.of_url(pages.url), Access(), 5.0), interval)
    return exit_code(findings), lines_of(facts, findings)


def test_server_without_problems_is_described() -> None:
    """The report has the workers, series, sizes and the duration of a scrape."""
    code, lines = check()
    assert code == 0
    assert re.search(r"/metrics: \?, gunicorn \? with \? workers, 2 of 2 running$", lines[0])
    assert re.fullmatch(rf"\d+ series in {len(FAMILIES)} families, 4 kB, \d kB compressed", lines[1])
    assert re.fullmatch(r"a scrape takes \d+ ms: \d\.\d % of the interval of 15 s", lines[2])
    assert lines[3:] == ["ok: no problem found"]


@pytest.mark.parametrize(
    ("replies", "words"),
    [
        ({"metrics": Reply("", 401)}, "answers 401: it wants credentials"),
        ({"metrics": Reply("", 404)}, "answers 404"),
        ({"metrics": Reply("<html>", content_type="text/html")}, "the page in the text format cannot be parsed"),
        ({"metrics": Reply("# TYPE a gauge\na 1\n")}, "a page of metrics, but not of this package"),
        ({"openmetrics": Reply("", 500)}, "the page in the OpenMetrics format answers 500"),
        ({"openmetrics": Reply(metrics(), content_type=OPENMETRICS)}, "the page in the OpenMetrics format cannot be"),
        (
            {"metrics": Reply(metrics(without=("gunicorn_requests",)))},
            "1 family of this package missing: gunicorn_requests",
        ),
        ({"healthz": Reply("", 404)}, "/healthz answers 404"),
        ({"readyz": Reply("", 503)}, "no worker can take requests"),
        ({"readyz": Reply("", 502)}, "/readyz answers 502"),
    ],
)
def test_wrong_answer_is_a_problem(replies: dict[str, Reply], words: str) -> None:
    """Each answer that is not as it has to be is one problem."""
    code, lines = check(replies)
    assert code == 1
    [line] = [line for line in lines if not re.match(r"http|a scrape takes|\d+ series", line)]
    assert line.startswith("problem: ")
    assert words in line


def test_server_that_sends_no_openmetrics_is_a_note() -> None:
    """A page in the text format where OpenMetrics was asked for does not change the exit code."""
    code, lines = check({"openmetrics": Reply(metrics(), content_type=TEXT)})
    assert code == 0
    assert lines[3].startswith("note: asked for OpenMetrics, the server sends 'text/plain;")


def test_scrape_that_takes_the_interval_is_a_problem() -> None:
    """A scrape that takes as long as the interval is a problem; one that takes a large part of it is a note."""
    slow = Reply(metrics(), content_type=TEXT, seconds=0.3)
    code, lines = check({"metrics": slow}, interval=0.2)
    assert code == 1
    assert re.match(r"problem: a scrape takes 3\d\d ms, and Prometheus gives up after 200 ms", lines[3])
    code, lines = check({"metrics": slow}, interval=1.0)
    assert code == 0
    assert re.match(r"note: a scrape takes 3\d\d ms of the interval of 1\.0 s", lines[3])


def test_server_that_does_not_listen_is_one_problem() -> None:
    """A closed port is one problem, without facts."""
    client = Client(Target.of_url(f"http://127.0.0.1:{unused_port()}"), Access(), 5.0)
    facts, findings = check_url(client, 15.0)
    assert facts == []
    assert [finding.is_problem for finding in findings] == [True]
