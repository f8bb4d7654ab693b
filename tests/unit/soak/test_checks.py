"""The checks of a soak: each one finds what it is there for."""

from __future__ import annotations

import pytest

from tests.soak.compare import more_failures
from tests.soak.growth import Usage, grown
from tests.soak.load import LEFT, OK, Record
from tests.soak.scrapes import Checks, parse
from tests.soak.totals import (
    Pages,
    application_problems,
    exit_problems,
    final_problems,
    killed_in,
    read_begun,
    request_problems,
)

INFO = 'gunicorn_build_info{master="7"} 1\n'
FILE = "10 1.0 boot\n10 1.5 begin /r/1 200\n10 1.6 begin /r/2 404\n10 1.7 begin /r/3 200\n10 1.8 begin /metrics 200\n"
LOG = (
    "Booting worker with pid: 10\nWorker (pid:10) was sent SIGKILL! Perhaps out of memory?\n"
    "gunicorn_prom_hooks: worker worker_1_5 (pid:10) exited: signal (SIGKILL); in progress: GET /r/3 (0.100 s)\n"
)
PAGE = """
# TYPE gunicorn_requests_total counter
gunicorn_requests_total{endpoint="/r/:id",status="200"} 1
gunicorn_requests_total{endpoint="<unmatched>",status="404"} 1
gunicorn_requests_total{endpoint="/metrics",status="200"} 1
# TYPE gunicorn_killed_requests_total counter
gunicorn_killed_requests_total{reason="signal"} 1
# TYPE gunicorn_worker_exits_total counter
gunicorn_worker_exits_total{reason="signal",detail="SIGKILL"} 1
# TYPE soak_started_total counter
soak_started_total 4
"""


def record() -> Record:
    """Return what the clients saw of the requests in FILE, and one that was refused."""
    asked = {"/r/1": 200, "/r/2": 404, "/r/3": 200, "/r/4": 200}
    return Record(asked, {"/r/1": OK, "/r/2": OK, "/r/3": "no response", "/r/4": "refused"})


def pages(*changes: tuple[str, str]) -> Pages:
    """Return PAGE with these changes."""
    text = PAGE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return Pages([parse(text, "text/plain")])


def scrape(checks: Checks, *lines: str, lenient: bool = False) -> list[str]:
    """Check a page of a master, and return the problems so far."""
    checks.page(parse(INFO + "".join(f"{line}\n" for line in lines), "text/plain"), lenient=lenient)
    return checks.problems


COUNTER = "# TYPE a_total counter"


def test_counter_that_falls_is_found() -> None:
    """A fall within one master is found, and none where another master has begun anew."""
    checks = Checks()
    assert scrape(checks, COUNTER, 'a_total{b="c"} 5') == scrape(checks, COUNTER, 'a_total{b="c"} 6') == []
    checks.page(parse(f'gunicorn_build_info{{master="8"}} 1\n{COUNTER}\na_total{{b="c"}} 1\n', "text/plain"))
    assert checks.problems == []
    assert len(scrape(checks, COUNTER, 'a_total{b="c"} 5')) == 1
    assert "backwards in master 7" in checks.problems[0]


def test_counter_that_goes_away_is_found() -> None:
    """A sum over all workers never goes away, a worker's own counter does."""
    checks = Checks()
    scrape(checks, COUNTER, 'a_total{b="c"} 5', 'a_total{worker_id="1"} 5')
    assert scrape(checks, COUNTER, 'a_total{b="c"} 5') == []
    assert scrape(checks, lenient=True) == []
    assert "gone from master 7: 1 series" in scrape(checks)[0]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["gunicorn_worker_uptime_seconds -1"], "impossible"),
        (["gunicorn_requests_in_progress -1"], "impossible"),
        (["gunicorn_worker_heartbeat_age_seconds 1700000000"], "impossible"),
        (["a 1", "a 1"], "twice"),
        (['gunicorn_exporter_collector_success{collector="x"} 0'], "a collector has failed: x"),
        (["# TYPE gunicorn_requests_total counter", "gunicorn_requests_total 3"], "3 requests, 0 durations"),
    ],
)
def test_page_that_cannot_be_right_is_found(lines: list[str], problem: str) -> None:
    """An age that is negative or that of a wall clock, a sample that is there twice, sums that disagree."""
    assert problem in scrape(Checks(), *lines)[0]


def test_page_that_does_not_parse_is_an_error() -> None:
    """Both parsers refuse what is not their format."""
    for content_type in ("text/plain", "application/openmetrics-text"):
        with pytest.raises(ValueError, match=r"."):
            parse('a{b="c} 1\n', content_type)


def test_totals_that_agree_are_no_problem() -> None:
    """A killed request is not counted, and a refused one is nowhere."""
    begun = read_begun(FILE)
    assert request_problems(record(), begun, LOG, pages()) == []
    assert exit_problems(LOG, pages(), 0) == []
    assert application_problems(begun, LOG, pages(), lambda *_: False) == []
    assert final_problems(pages(), ()) == []
    assert killed_in(LOG) == (["/r/3"], 1)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            '"/r/:id",status="200"} 1',
            '"/r/:id",status="200"} 0',
            "counted 1, 0 of them interrupted; begun and not killed: 2",
        ),
        ('"/r/:id",status="200"} 1', '"/r/:id",status="200"} 2', "counted 3"),
        ('"<unmatched>",status="404"', '"<unmatched>",status="200"', "status 200: counted 2, at least 1, at most 1"),
        ('reason="signal"} 1', 'reason="signal"} 0', "0 killed requests on the pages, 1 in the log"),
    ],
)
def test_request_that_is_counted_wrongly_is_found(old: str, new: str, problem: str) -> None:
    """One request more or less, or with another status, is found."""
    assert any(problem in found for found in request_problems(record(), read_begun(FILE), LOG, pages((old, new))))


def test_killed_request_that_is_counted_as_well_is_found() -> None:
    """A log without the killed request, or with it twice, does not agree with the page."""
    assert request_problems(record(), read_begun(FILE), "", pages())
    assert any("killed twice" in found for found in request_problems(record(), read_begun(FILE), LOG * 2, pages()))


def test_response_without_a_start_and_lost_requests_are_found() -> None:
    """What a client has was begun, what was begun and not killed has a response, and each is begun once."""
    seen = record()
    seen.outcomes["/r/4"], seen.outcomes["/r/1"] = OK, "timeout"
    begun = read_begun(FILE + "10 2.0 begin /r/1 200\n")
    found = request_problems(seen, begun, LOG, pages())
    for problem in ("answered and not begun: ['/r/4']", "1 requests without a response", "begun twice: ['/r/1']"):
        assert any(problem in line for line in found)
    assert not any("without a response" in line for line in request_problems(seen, begun, LOG, pages(), may_lose=True))
    seen.outcomes["/r/1"] = LEFT
    assert not any("without a response" in line for line in request_problems(seen, read_begun(FILE), LOG, pages()))


def test_exit_that_is_not_counted_is_found() -> None:
    """Exits are those of gunicorn's log, by signal; a handled SIGABRT and a last SIGKILL are in no log."""
    assert len(exit_problems(LOG, pages(('detail="SIGKILL"} 1', 'detail="SIGKILL"} 0')), 0)) == 2
    assert len(exit_problems(LOG, pages(('detail="SIGKILL"', 'detail="SIGTERM"')), 0)) == 2
    assert exit_problems(LOG, pages(('detail="SIGKILL"} 1', 'detail="SIGKILL"} 2')), 0) != []
    handled = "Booting worker with pid: 10\n"
    assert exit_problems(handled, pages(('detail="SIGKILL"', 'detail="SIGABRT"')), 1) == []
    assert (
        exit_problems(handled, pages(('reason="signal",detail="SIGKILL"', 'reason="shutdown",detail="SIGKILL"')), 0)
        == []
    )


@pytest.mark.parametrize(
    ("counted", "exempt", "right"), [(4, 0, 1), (3, 0, 1), (2, 0, 0), (5, 0, 0), (0, 1, 1), (5, 1, 0)]
)
def test_application_counter_that_is_too_low_or_too_high_is_found(counted: int, exempt: int, right: int) -> None:
    """At least what its file has without killed requests, unless the process could have no file; never more."""
    found = application_problems(
        read_begun(FILE), LOG, pages(("soak_started_total 4", f"soak_started_total {counted}")), lambda *_: bool(exempt)
    )
    assert bool(found) is not bool(right)


def test_failures_of_the_package_are_found() -> None:
    """Those that no fault explains are problems, and so is what is left in progress."""
    line = ("soak_started_total 4", 'gunicorn_exporter_errors_total{where="hook"} 1\ngunicorn_requests_in_progress 1')
    assert len(final_problems(pages(line), ["app_metrics"])) == 2
    assert len(final_problems(pages(line), ["hook"])) == 1


def test_growth_is_found_and_ups_and_downs_are_not() -> None:
    """The least values of the first and the last third count."""
    leak = Usage([(at / 4, 20 + at) for at in range(200)])
    waves = Usage([(at / 4, 20 + at % 40) for at in range(200)])
    assert len(grown({("7", "descriptors"): leak, ("8", "descriptors"): waves})) == 1


def test_more_failures_than_chance_are_found() -> None:
    """A failure of every tenth request is found, by kind; a few more are chance."""
    assert more_failures({"no response": 14}, 1000, {"no response": 9}, 1000) == []
    [found] = more_failures({"no response": 100}, 1000, {"no response": 9, "refused": 200}, 1000)
    assert "100 times 'no response'" in found
