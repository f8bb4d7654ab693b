"""Pages of metrics: what is found in them."""

from __future__ import annotations

import pytest

from gunicorn_prom_hooks.cli.check.page import FAMILIES, MAX_SERIES, Page, check_counters, check_families, lint
from tests.helpers.page_server import metrics


def page(more: str = "", *, without: tuple[str, ...] = ()) -> Page:
    """Return a parsed page in the text format."""
    return Page(metrics(more, without=without), openmetrics=False)


def found(parsed: Page) -> list[str]:
    """Return the lines of all findings of a page."""
    return [finding.line for check in (check_families, check_counters, lint) for finding in check(parsed)]


def test_complete_page_has_no_finding() -> None:
    """A page with all families and no failure is correct."""
    assert found(page()) == []


def test_missing_families_are_named_at_most_five() -> None:
    """Families that are missing are one line, with the names of the first ones."""
    [line] = found(page(without=("gunicorn_workers", "gunicorn_requests")))
    assert line.startswith("problem: 2 families of this package missing: gunicorn_requests, gunicorn_workers. ")
    many = tuple(f"gunicorn_{name}" for name in ("requests", "reloads", "workers", "worker_state", "worker_info"))
    [line] = found(page(without=(*many, "gunicorn_workers_target", "gunicorn_worker_exits")))
    assert "7 families" in line
    assert " and 2 more." in line


def test_collector_that_failed_is_a_problem() -> None:
    """A collector whose success is 0 is named, and explains what is missing."""
    text = 'gunicorn_exporter_collector_success{collector="workers"} 0\n'
    lines = found(page(text, without=("gunicorn_worker_info",)))
    assert lines[0].startswith("problem: the collector workers has failed")
    assert "The failed collectors explain it" in lines[1]


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        ('gunicorn_exporter_errors_total{where="endpoint"} 3', "where='endpoint' is 3"),
        ('gunicorn_exporter_errors_total{where="pre_fork"} 1', "The error log of gunicorn has the reason"),
        ('gunicorn_exporter_overflowed_labels_total{label="endpoint"} 7', "Give install() an `endpoint` callable"),
        ('gunicorn_exporter_overflowed_labels_total{label="series"} 7', "the label series has too many values: 7"),
    ],
)
def test_counter_of_failures_above_zero_is_a_problem(sample: str, words: str) -> None:
    """Internal failures and labels with too many values are problems; zeros are none."""
    [finding] = check_counters(page(f"{sample}\n"))
    assert finding.is_problem
    assert words in finding.line
    name, _, _ = sample.rpartition(" ")
    assert list(check_counters(page(f"{name} 0\n"))) == []


def test_series_that_comes_twice_is_a_problem() -> None:
    """Two samples of one name with the same labels are reported, and others are not."""
    [line] = found(page('# HELP a A.\n# TYPE a gauge\na{b="1",c="2"} 1\na{c="2",b="1"} 2\na{b="2"} 3\n'))
    assert line.startswith("problem: series that come twice: a.")


def test_family_that_comes_twice_is_a_problem() -> None:
    """Two families of one name are reported once."""
    family = "# HELP a A.\n# TYPE a gauge\na 1\n"
    [line] = found(page(f"{family}# HELP b B.\n# TYPE b gauge\nb 1\n{family}"))
    assert line.startswith("problem: families that come twice: a.")


def test_family_without_help_is_a_note() -> None:
    """A family without a help text is a note."""
    [line] = found(page("# TYPE a gauge\na 1\n"))
    assert line.startswith("note: families without a help text: a.")


def test_page_with_many_series_is_a_note() -> None:
    """A page beyond the limit of series is called large."""
    samples = "".join(f'a{{b="{number}"}} 1\n' for number in range(MAX_SERIES))
    [line] = found(page(f"# HELP a A.\n# TYPE a gauge\n{samples}"))
    assert line.startswith(f"note: the page has {MAX_SERIES + len(FAMILIES):,} series")


@pytest.mark.parametrize(("text", "openmetrics"), [("a{ 1\n", False), ("<html>", False), ("a 1\n", True)])
def test_page_in_another_format_raises_value_error(text: str, openmetrics: bool) -> None:
    """A page that the parser refuses is a ValueError with a text."""
    with pytest.raises(ValueError, match=r"."):
        Page(text, openmetrics=openmetrics)


def test_label_with_control_characters_is_escaped() -> None:
    """A label value of the page cannot control the terminal."""
    lines = found(page('gunicorn_exporter_errors_total{where="\x1b[2J"} 1\n'))
    assert all(line.isprintable() for line in lines)
    lines = found(page('gunicorn_exporter_collector_success{collector="\x1b[2J"} 0\n'))
    assert "\\x1b[2J" in lines[0]
