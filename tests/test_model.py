"""The model of larger machines adds up, and its plot is that of its figures."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from scripts import script

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model() -> ModuleType:
    return script("benches/model.py")


def test_nobody_is_busy_for_longer_than_all_the_time_unless_it_is_too_much(
    model: ModuleType,
) -> None:
    costs = model.read(ROOT / "benches/model.json")
    for load in model.LOADS:
        for workers in (1, 8, 64):
            for connections in (1_000, 1_000_000, 50_000_000):
                it = model.busy(costs, load, workers, connections)
                assert it.waking >= 0
                assert it.all <= max(1.0, it.work)


def test_as_many_clients_as_the_model_allows_are_that_much_work(model: ModuleType) -> None:
    costs = model.read(ROOT / "benches/model.json")
    for load in model.LOADS:
        most = model.most_connections(costs, load, 8)
        work = model.busy(costs, load, 8, most).work
        assert work == pytest.approx(model.MOST_WORK, rel=0.01)


def test_one_worker_wakes_nobody(model: ModuleType) -> None:
    costs = model.read(ROOT / "benches/model.json")
    assert all(model.busy(costs, load, 1, 10_000).waking == 0 for load in model.LOADS)


def test_the_models_tables_and_plot_are_made(
    model: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    costs = model.read(ROOT / "benches/model.json")
    model.capacity(costs)
    model.million(costs)
    model.memory(costs)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(model.LOADS) + 1 + 3 * len(model.LOADS) + 1 + 3
    assert (ROOT / "docs/images/model.svg").read_text() == model.plot(costs)
