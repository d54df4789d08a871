"""The model of larger machines adds up, and its plot is that of its figures."""

from __future__ import annotations

import pytest
from benches import model
from benches.compare.document import published
from benches.figures.summary import Summary

SITTING = Summary.read(published())
COSTS = model.read(SITTING)


def test_worker_is_busy_for_less_than_the_whole_time_unless_it_is_overloaded() -> None:
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


def test_one_worker_wakes_no_other() -> None:
    assert all(model.busy(COSTS, load, 1, 10_000).waking == 0 for load in model.LOADS)


def test_the_models_tables_have_a_row_for_each_load_and_each_cost() -> None:
    text = model.tables(SITTING)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    tables = len(model.LOADS), 3 * len(model.LOADS), 3, len(vars(COSTS))
    assert len(rows) == len(tables) + sum(tables)


def test_a_cost_that_was_not_measured_is_no_guess() -> None:
    missing = {"row": "idle WebSockets, 2000", "entry": "Fanbus, turbo", "figure": "worker_mb"}
    with pytest.raises(ValueError, match="has no figure for idle WebSockets, 2000: Fanbus, turbo"):
        model.cost({"compare": missing}, SITTING)
