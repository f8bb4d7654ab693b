"""The report of the benchmarks is what its writer makes from the results; benchmarks notice what is not counted."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import (
    app_generations,
    counts,
    document,
    page,
    peers,
    pictures,
    results,
    running,
    scrapes,
    sections,
    turns,
    variants,
)
from benchmarks.loop import Loop
from benchmarks.options import Options
from benchmarks.spread import Spread, differences, ratios, spread
from benchmarks.variants import BARE, EMPTY, EXPORTER, HOOKS, STATSD
from tests.helpers.places import TOP

JSON = TOP / "docs" / "benchmarks.json"
TEMPLATES = TOP / "benchmarks" / "templates"


@pytest.fixture(scope="module")
def found() -> results.Results:
    """The results in the repository."""
    return results.load(JSON)


def test_document_is_what_its_writer_makes_from_the_results(found: results.Results) -> None:
    """No figure in docs/benchmarks.md is typed by hand."""
    assert (TOP / "docs" / "benchmarks.md").read_text() == document.document(found)


@pytest.mark.parametrize("name", document.PAGES)
def test_figures_in_other_pages_are_those_of_the_results(name: str, found: results.Results) -> None:
    """Between its comments each page has what the writer makes."""
    page = (TOP / name).read_text()
    assert document.BLOCK.search(page)
    assert document.with_figures(page, found) == page
    assert page.count("<!-- benchmarks: ") == page.count("<!-- /benchmarks -->") == len(document.BLOCK.findall(page))


def test_each_template_is_used() -> None:
    """Each template is the document, a part of it, or a block of a page."""
    text = "".join((TOP / name).read_text() for name in document.PAGES) + (TEMPLATES / "benchmarks.md").read_text()
    used = set(re.findall(r"<!-- benchmarks: (\w+) -->", text)) | set(re.findall(r'include "(\w+)\.md"', text))
    assert used | {"benchmarks"} == {path.stem for path in TEMPLATES.glob("*.md")}


def test_results_are_complete_and_of_real_runs(found: results.Results) -> None:
    """The results in the repository have every section, none of them by --quick or with fewer rounds."""
    assert list(found) == [section.name for section in sections.SECTIONS]
    assert not [name for name, result in found.items() if result.run.quick or result.run.rounds]


def test_results_have_every_kind_of_worker_and_every_variant(found: results.Results) -> None:
    """Nothing that the benchmarks name is missing in the report."""
    measured = [(peer.worker, peer.group, peer.variant) for peer in found["peers"].figures.peers]
    assert measured == [
        (worker.name, group.name, variant.name)
        for worker in variants.WORKERS
        for group, variant in peers.of_worker(worker)
    ]
    in_turn = found["turns"].figures
    assert {case.worker for case in in_turn.cases} == set(turns.WORKERS)
    assert {case.worker for case in in_turn.beside_recipe} == set(turns.BESIDE_RECIPE)


def test_results_have_every_size(found: results.Results) -> None:
    """Scrapes were measured with all numbers of workers, endpoints and generations."""
    figures = found["scrapes"].figures
    workers, endpoints = scrapes.GOAL
    assert [(one.workers, one.endpoints) for one in figures.by_workers] == [(n, endpoints) for n in scrapes.WORKERS]
    assert [(one.workers, one.endpoints) for one in figures.by_endpoints] == [(workers, n) for n in scrapes.ENDPOINTS]
    assert [one.generations for one in figures.by_generations] == list(scrapes.GENERATIONS)
    sizes = [(one.endpoints, one.methods) for one in found["page"].figures]
    assert sizes == list(page.SIZES)
    assert found["app_generations"].figures.generations == app_generations.GENERATIONS


def test_other_results_make_another_document(found: results.Results) -> None:
    """The figures in the document come from the results."""
    loop = replace(found["loop"], figures=replace(found["loop"].figures, gevent=123_450.0))
    text = document.document({**found, "loop": loop})
    assert "123.45 µs (gevent)" in text
    assert "123.45 µs (gevent)" not in document.document(found)


def test_pictures_of_the_document_are_drawn(tmp_path: Path, found: results.Results) -> None:
    """Each picture that the document or the README shows is drawn, and is in the repository."""
    document.write(found, tmp_path)
    shown = re.findall(r"!\[.*?\]\(([\w/]+\.png)\)", (tmp_path / "benchmarks.md").read_text())
    assert sorted(shown) == sorted(pictures.NAMES)
    for name in shown:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert (TOP / "docs" / name).exists()
    assert "docs/benchmarks_cpu.png" in (TOP / "README.md").read_text()


def test_results_are_read_as_they_were_written(tmp_path: Path, found: results.Results) -> None:
    """Saved and loaded, results are the same."""
    file = tmp_path / "results.json"
    results.save(found, file)
    assert results.load(file) == found
    assert results.load(tmp_path / "none.json") == {}


def unwanted(options: Options) -> None:
    """Fail: this section is not to be measured."""
    pytest.fail("measured")


def test_sections_measured_alone_take_the_place_of_their_former_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: results.Results
) -> None:
    """A run of one section keeps the results of the others."""
    results.save(found, tmp_path / "benchmarks.json")
    figures = Loop(1.0, 2.0, 3.0, 4.0, 5.0)
    measures = {"loop": lambda options: figures}
    made = tuple(replace(one, measure=measures.get(one.name, unwanted)) for one in sections.SECTIONS)
    monkeypatch.setattr(command, "SECTIONS", made)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "loop", "--rounds", "7", "--into", str(tmp_path)])
    command.main()
    merged = results.load(tmp_path / "benchmarks.json")
    assert merged["loop"].figures == figures
    assert merged["loop"].run.rounds == 7
    assert {**merged, "loop": None} == {**found, "loop": None}
    assert (tmp_path / "benchmarks.md").read_text() == document.document(merged)


def test_spread_is_median_and_quartiles() -> None:
    """One figure has no spread. Ratios and differences are those of the same round."""
    assert spread([1.0, 2.0, 3.0, 4.0, 100.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert spread([7.0]).is_single
    assert ratios([2.0, 6.0, 12.0], [1.0, 2.0, 3.0]) == Spread(3.0, 2.5, 3.5, 3)
    assert differences([2.0, 6.0, 12.0], [1.0, 2.0, 3.0]).median == 4.0
    assert document.around(spread([1.0, 2.0, 3.0])) == "2.0 (1.5 to 2.5)"
    assert document.around(spread([1234.5]), 0) == "1,234"


@pytest.mark.parametrize("counted", [0.0, 99.0, 100.0 + counts.UNFINISHED + 1])
def test_requests_that_are_not_counted_are_noticed(counted: float) -> None:
    """A server that has counted less or more than was sent measures something else."""
    counts.check_count("hooks", 100.0, 100)
    counts.check_count("hooks", 100.0 + counts.UNFINISHED, 100)
    counts.check_count("statsd", 95.0, 100, lost=0.1)
    with pytest.raises(counts.WrongCountError):
        counts.check_count("hooks", counted, 100)


@pytest.mark.parametrize(
    ("name", "loaded", "hooks"),
    [
        (BARE, ["gunicorn_prom_hooks", "prometheus_client"], ["gunicorn.config"]),
        (BARE, [], ["gunicorn_config"]),
        (EMPTY, ["prometheus_client"], ["gunicorn_config"]),
        (STATSD, [], ["gunicorn_config"]),
        (HOOKS, [], ["gunicorn.config"]),
        (EXPORTER, [], ["gunicorn.config"]),
    ],
)
def test_variant_that_is_not_what_its_name_says_is_noticed(name: str, loaded: list[str], hooks: list[str]) -> None:
    """Bare gunicorn has nothing loaded, the others have what they are named after."""
    with pytest.raises(counts.WrongCountError):
        running.check_loaded(name, loaded, hooks)


def test_variants_that_are_what_their_names_say() -> None:
    """What is expected to be loaded is accepted."""
    running.check_loaded(BARE, [], ["gunicorn.config"] * 2)
    running.check_loaded(HOOKS, ["gunicorn_prom_hooks", "prometheus_client"], ["gunicorn.config"])
    running.check_loaded(EXPORTER, ["prometheus_client"], ["gunicorn.config"])


def test_all_workers_of_turns_have_an_application() -> None:
    """Each application that a benchmark names is a file."""
    names = {app for _, app in turns.WORKERS.values()}
    assert all((TOP / "benchmarks" / "applications" / f"{name}.py").exists() for name in names)
