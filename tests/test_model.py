"""The model of larger machines adds up, and its plot is that of its figures."""

from __future__ import annotations

import pytest
from benches import model
from benches.compare.document import DOCUMENT

COSTS = model.read()


def test_nobody_is_busy_for_longer_than_all_the_time_unless_it_is_too_much() -> None:
    for load in model.LOADS:
        for workers in (1, 8, 64):
            for connections in (1_000, 1_000_000, 50_000_000):
                it = model.busy(COSTS, load, workers, connections)
                assert it.waking >= 0
                assert it.all <= max(1.0, it.work)


def test_as_many_clients_as_the_model_allows_are_that_much_work() -> None:
    for load in model.LOADS:
        most = model.most_connections(COSTS, load, 8)
        work = model.busy(COSTS, load, 8, most).work
        assert work == pytest.approx(model.MOST_WORK, rel=0.01)


def test_one_worker_wakes_nobody() -> None:
    assert all(model.busy(COSTS, load, 1, 10_000).waking == 0 for load in model.LOADS)


def test_the_models_tables_and_plot_are_those_of_the_runs_that_the_page_has() -> None:
    """After a change of the model: python -m benches.model --document."""
    text = model.tables()
    assert model.SECTION.read(DOCUMENT)[1] == text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    tables = len(model.LOADS), 3 * len(model.LOADS), 3, len(vars(COSTS))
    assert len(rows) == len(tables) + sum(tables)
    assert model.PICTURE.read_text() == model.plot(COSTS)


def test_a_cost_that_no_run_has_is_taken_from_where_it_was_measured_before() -> None:
    missing = {"row": "none", "entry": "nobody", "figure": "worker_mb"}
    before = {"value": 14.9, "from": "an earlier run"}
    assert model.cost({"compare": missing, "until_measured": before}) == (14.9, "an earlier run")
