"""`make figures`: all tables of docs/benchmarks.md and its pages are made of one sitting."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from benches.compare.document import (
    DOCUMENT,
    PICTURES,
    README,
    SITTING,
    Section,
    homes,
    names,
    pages,
    published,
)
from benches.figures import __main__ as figures
from benches.figures import page
from benches.figures.parts import (
    BY_NAME,
    PARTS,
    Effort,
    Part,
    PartError,
    estimates,
    lacks_nothing,
    run,
)
from benches.figures.sitting import Sitting
from benches.figures.standing import summary
from benches.figures.summary import OF_A_RUN, Summary
from benches.independent import OURS, is_quick_enough

from support.bench_programs import assert_takes_all_along
from support.paths import ROOT
from support.servers import DEADLINE_S, children

ONCE = ("--rounds", "1", "--seconds", "0.1")

# Settings of the measurements, which are not measured figures and may stand in the text.
SETTINGS = (
    "128 bytes",
    "used CPU for 0.3 s",
    "asked every 2 ms",
    "16 bytes longer",
    "spins for 20 µs (and 1 ns per byte)",
    "sleeps for about 1 ms",
    "half of Fanbus's log",
    "at most half of a ring of 8 MiB",
    "three of 1 MiB",
    "64 messages (or 64 KiB)",
    "a record of 256 bytes",
    "21 rounds of 100 ms",
    "compressor's 128 KiB",
    "may change by 1 %",
    "a ping every 25 s",
    "a ring's 8 MiB",
    "the user-space half",
    "hold 8 MiB for each worker",
    "is 8 MiB behind",
    "a third core",
    "a minute and a half of CPU",
    "each twice. The smaller",
    "sleep for 100 ms",
    "50 ms of computing in every tenth request",
)
TIMES = "\N{MULTIPLICATION SIGN}"
FIGURE = re.compile(
    rf"\d[\d.,]*\s*(?:µs|ns|ms|s|B|KiB|MiB|GiB|MB|%|{TIMES}|M|k|times|bytes|per second|/s)(?!\w)"
    r"|\b(?:half|halves|third|quarter|fifth|sixth|eighth|tenth|twelfth|thirtieth|twice|thrice)s?\b"
)


def command(*arguments: str | Path, peers: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command with this folder as the place of the comparison's systems."""
    return subprocess.run(
        [sys.executable, "-m", "benches.figures", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "COMPARE": str(peers)},
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE_S,
        check=False,
    )


def test_tables_and_pictures_are_made_of_the_published_sitting() -> None:
    """After a change of the tables: python -m benches.figures --document benches/sittings/FILE."""
    sitting = Summary.read(published())
    made = page.made(sitting)
    assert sorted(homes()) == sorted(made)
    for name, text in made.items():
        assert Section(name).read(homes()[name])[1] == text, name
    compared = page.comparison(sitting)
    assert page.SUMMARY.read(README)[1] == summary(compared)
    for name, picture in page.drawings(sitting).items():
        assert (PICTURES / name).read_text() == picture, name


def test_each_section_is_on_one_page() -> None:
    sections = [name for page in pages() for name in names(page)]
    assert sorted(sections) == sorted(set(sections))


def test_main_page_is_short() -> None:
    assert len(DOCUMENT.read_text().splitlines()) < 200


def test_all_parts_of_the_pages_were_measured_in_one_sitting() -> None:
    parts = Summary.read(published()).record("sitting")["parts"].values()
    begun = [datetime.strptime(part["begun"], "%Y-%m-%dT%H:%M:%S%z") for part in parts]
    assert begun == sorted(begun)
    assert begun[-1] - begun[0] < timedelta(hours=2)
    assert not any(part["failed"] for part in parts)


def test_the_published_summary_has_all_parts_and_is_small() -> None:
    sitting = Summary.read(published())
    parts = sitting.record("sitting")["parts"]
    assert list(parts) == [part.name for part in PARTS]
    assert sorted(sitting.records) == sorted([*parts, "sitting"])
    assert published().stat().st_size < 200_000


def test_summary_retains_the_figures_of_runs_that_tables_read(tmp_path: Path) -> None:
    run = {"per_second": 2.0, "orders": None, "server": {"cpu_us_per_unit": 1.5, "processes": 3}}
    failed = {"failed": "hung", "hung": True}
    runs = {"echo": {"Fanbus": [run, failed], "floor": [failed, run]}}
    file = tmp_path / "sitting.json"
    Summary.of("sitting", {"compare": {"rows": [], "runs": runs}}).write(file)
    short = {"per_second": 2.0, "server": {"cpu_us_per_unit": 1.5}}
    expected = {"Fanbus": [short, {"failed": "hung"}], "floor": [{"failed": "hung"}, short]}
    assert Summary.read(file).record("compare") == {"rows": [], "runs": {"echo": expected}}


def test_summary_has_each_figure_that_a_table_reads() -> None:
    """A table that reads another figure of a run finds nothing in a summary."""
    code = [path.read_text() for path in (ROOT / "benches").rglob("*.py")]
    read = {found for text in code for found in re.findall(r'\bat\("([^"]+)"\)', text)}
    assert read <= set(OF_A_RUN)
    assert len(read) > 5


def prose(document: Path) -> str:
    """The text outside of tables, of generated sections and of code."""
    text = document.read_text()
    for name in names(document):
        begin = text.index(f"<!-- {name}")
        end = text.index(f"<!-- end of {name} -->")
        text = text[:begin] + text[end:]
    text = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.DOTALL)
    lines = [line for line in text.splitlines() if not line.startswith("|")]
    return " ".join(" ".join(lines).split())


def figures_in(text: str) -> list[str]:
    for setting in SETTINGS:
        text = text.replace(setting, "")
    return [text[max(0, it.start() - 40) : it.end() + 20] for it in FIGURE.finditer(text)]


def test_text_of_the_pages_quotes_no_measured_figure() -> None:
    texts = [prose(page) for page in pages()]
    assert [figure for text in texts for figure in figures_in(text)] == []
    unused = [setting for setting in SETTINGS if not any(setting in text for text in texts)]
    assert unused == []


@pytest.mark.parametrize(
    "claim",
    [
        "a delivery takes 0.2 µs",
        "it is 97 to 99 % of the work",
        "a thirtieth of what Redis takes",
        "15 M records",
        "1.5 KiB each",
        f"2.1 {TIMES} as much",
        "3 times as much",
    ],
)
def test_measured_figure_in_a_text_is_found(claim: str) -> None:
    assert figures_in(f"They say that {claim}.") != []


def test_load_client_has_three_times_the_rate_of_the_chat_example() -> None:
    rounds = Summary.read(published()).record("independent")["rounds"][OURS]
    assert rounds
    assert all(is_quick_enough(each) for each in rounds)
    row = next(
        line
        for line in Section("figures.ceiling").read(homes()["figures.ceiling"])[1].splitlines()
        if line.startswith("| chat example, 2 workers")
    )
    in_this_run, in_the_self_test = re.findall(rf"([\d.,]+) {TIMES}", row)
    assert float(in_this_run) >= 3
    assert float(in_the_self_test.replace(",", "")) >= 3


def test_parts_are_measured_in_order_into_files(tmp_path: Path) -> None:
    parts = ("kernel-memory", "self-test")
    done = command(*parts, *ONCE, "--out", tmp_path, peers=tmp_path)
    assert done.returncode == 0, done.stderr
    sitting = Sitting(tmp_path)
    assert list(sitting.record("sitting")["parts"]) == list(parts)
    assert sorted(sitting.summary().records) == sorted([*parts, "sitting"])
    assert len(sitting.record("kernel-memory")["kib"]) > 1
    (tests,) = sitting.record("self-test")["rounds"]
    assert tests["fan-out to 204"]["driver"]["ceiling_per_second"] > 0
    assert "1 of 2: kernel-memory; about " in done.stderr
    assert "2 of 2: self-test; about " in done.stderr
    assert re.search(r"self-test took \d+ s", done.stderr)


def test_part_that_cannot_be_measured_is_reported_before_any_begins(tmp_path: Path) -> None:
    done = command("kernel-memory", "compare", *ONCE, "--out", tmp_path / "out", peers=tmp_path)
    assert done.returncode == 2
    assert "some parts cannot be measured here.\n  compare: uvloop is not installed: run" in (
        done.stderr.replace("granian is not installed: run benches/compare/install; ", "")
    )
    assert not (tmp_path / "out").exists()


def test_invalid_arguments_are_refused(tmp_path: Path) -> None:
    for arguments, said in (
        (("nothing",), "unknown part 'nothing'; known parts: kernel-memory,"),
        (("self-test", "--publish"), "--publish needs all parts"),
        (("--document", "/nowhere"), "/nowhere is not a file in benches/sittings."),
        (("--seconds", "0"), "invalid number above 0"),
    ):
        done = command(*arguments, peers=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr


def test_debug_build_is_not_published(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Not as a process: beside a release build that would publish the figures of a test.
    monkeypatch.setattr(figures, "is_debug", lambda: True)
    monkeypatch.setattr(sys, "argv", ["figures", "--publish", *ONCE])
    with pytest.raises(SystemExit) as ended:
        figures.main()
    assert ended.value.code == 2
    assert "this is a debug build" in capsys.readouterr().err


def test_failed_part_is_reported_and_the_others_continue(tmp_path: Path) -> None:
    def fail(_: Effort, __: Path) -> None:
        run(sys.executable, "-c", "raise SystemExit(7)")

    def write(_: Effort, file: Path) -> None:
        file.write_text("{}")

    said: list[str] = []
    sitting = Sitting(tmp_path)
    parts = [Part("failing", 0.1, fail), Part("sound", 0.1, write)]
    assert not sitting.measure(parts, Effort(0.1, 1), said.append)
    assert any("failing failed: " in line and "status 7" in line for line in said)
    kept = sitting.record("sitting")["parts"]
    assert "status 7" in kept["failing"]["failed"]
    assert kept["sound"]["failed"] is None


def test_sitting_without_a_part_changes_no_page() -> None:
    before = [page.read_text() for page in pages()]
    records = dict(Summary.read(published()).records)
    del records["cost"]
    with pytest.raises(KeyError):
        page.write(Summary("lacking", records))
    assert [page.read_text() for page in pages()] == before


def test_interrupted_sitting_leaves_no_process_behind(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "benches.figures", "self-test", "--seconds", "600"]

    def has_begun(pid: int) -> list[int] | None:
        """The command, and below it the server that it measures."""
        found = descendants(pid)
        return found if len(found) >= 2 else None

    assert_takes_all_along([*line, "--out", str(tmp_path)], has_begun)


def descendants(pid: int) -> list[int]:
    return [each for child in children(pid) for each in (child, *descendants(child))]


def test_figures_of_criterion_are_read_by_their_names(tmp_path: Path) -> None:
    def put(name: str, found: dict[str, Any]) -> None:
        folder = tmp_path / name / "new"
        folder.mkdir(parents=True)
        (folder / "benchmark.json").write_text(json.dumps({"full_id": name}))
        (folder / "estimates.json").write_text(json.dumps(found))

    def figure(at: float) -> dict[str, Any]:
        bounds = {"lower_bound": at - 1, "upper_bound": at + 1}
        return {"point_estimate": at, "confidence_interval": bounds}

    put("read/64", {"mean": figure(30.0), "slope": figure(31.0)})
    put("read/1024", {"mean": figure(1500.0), "slope": None})
    found = dict(estimates(tmp_path))
    assert found["read/64"] == {"at": 31.0, "least": 30.0, "most": 32.0}
    assert page.by_name(found).splitlines()[2:] == [
        "| read: 64 | 31 ns | 30 ns, 32 ns |",
        "| read: 1024 | 1.5 µs | 1.5 µs, 1.5 µs |",
    ]


def test_section_of_a_page_is_found_by_its_whole_name(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(
        "a\n<!-- figures.bus-parts -->\n\nparts\n\n<!-- end of figures.bus-parts -->\nb\n"
        "<!-- figures.bus -->\n\nbus\n\n<!-- end of figures.bus -->\nc\n"
    )
    Section("figures.bus").write(document, "new", "of a folder")
    assert Section("figures.bus").read(document) == ("of a folder", "new")
    assert Section("figures.bus-parts").read(document) == ("", "parts")
    assert document.read_text().startswith("a\n")
    assert document.read_text().endswith("\nc\n")
    with pytest.raises(ValueError, match=r"has no section figures\.log"):
        Section("figures.log").read(document)


def test_makefile_builds_the_programs_of_each_part() -> None:
    text = (ROOT / "Makefile").read_text()
    asked = {
        name for names in re.findall(r"call wants,([\w -]+)\)", text) for name in names.split()
    }
    assert asked <= set(BY_NAME)
    needy = {part.name for part in PARTS if part.missing is not lacks_nothing}
    assert asked == needy - {"independent"}, "websockets comes with .venv/ok-dev"
    assert SITTING.name in names(DOCUMENT)


def test_failed_program_is_an_error_of_its_part() -> None:
    with pytest.raises(PartError, match="ended with status 3"):
        run(sys.executable, "-c", "raise SystemExit(3)")
    assert (
        run(sys.executable, "-c", "print('said'); raise SystemExit(1)", allowed=(0, 1)) == "said\n"
    )
