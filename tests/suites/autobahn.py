"""Runs the Autobahn test-suite against the echoes of tests/apps/echoes.py, and judges its report.

    python tests/suites/autobahn.py --python2 python2.7 --suite .venv/autobahn [--markdown]

Strict is the only pass: what the suite calls NON-STRICT is a failure here. It exits with 1 then.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from support.paths import ROOT
from support.servers import Server

APP = ROOT / "tests" / "apps" / "echoes.py"
DOCUMENT = ROOT / "docs" / "conformance.md"
MARK = "<!-- What follows is written by `make autobahn MARKDOWN=1`. -->\n"
AGENTS = {"Python handler": "/python", "Rust (turbo)": "/rust"}
RUN_AT_MOST_S = 3600.0
WSTEST = """
import site, sys
site.addsitedir(sys.argv.pop(1))  # as PYTHONPATH, but with its .pth files
from autobahntestsuite import wstest
wstest.run()
"""


@dataclass(frozen=True)
class Case:
    """One case, as the suite judged it: its number, the exchange, and the close."""

    number: str
    behavior: str
    close: str

    @property
    def section(self) -> int:
        return int(self.number.split(".")[0])

    @property
    def verdict(self) -> str:
        """ok, informational, non-strict or failed."""
        words = {self.behavior, self.close}
        if words == {"OK"}:
            return "ok"
        if words <= {"OK", "INFORMATIONAL"} and self._only_informs:
            return "informational"
        return "non-strict" if words <= {"OK", "NON-STRICT"} else "failed"

    @property
    def _only_informs(self) -> bool:
        """RFC 6455 leaves these open, so the suite has no opinion on them."""
        return self.number == "7.1.6" or self.number.startswith("7.13.")


def read(index: Path) -> dict[str, list[Case]]:
    """The suite's index.json: the cases of each agent, in their order."""
    report: dict[str, dict[str, Any]] = json.loads(index.read_text())
    return {
        agent: sorted(
            (
                Case(number, case["behavior"], case["behaviorClose"])
                for number, case in some.items()
            ),
            key=lambda case: [int(part) for part in case.number.split(".")],
        )
        for agent, some in report.items()
    }


def passed(report: dict[str, list[Case]]) -> bool:
    """Whether both echoes were tested, by the same cases, and all of them are strictly right."""
    numbers = [[case.number for case in cases] for cases in report.values()]
    complete = (
        set(report) == set(AGENTS)
        and numbers[0] != []
        and all(each == numbers[0] for each in numbers)
    )
    verdicts = {case.verdict for cases in report.values() for case in cases}
    return complete and verdicts <= {"ok", "informational"}


def table(report: dict[str, list[Case]]) -> str:
    """A row for each section of each agent, and one for all."""
    columns = ("ok", "informational", "non-strict", "failed")
    rows: list[tuple[str, ...]] = [("echo", "section", "cases", *columns)]
    for agent, cases in report.items():
        sections = sorted({case.section for case in cases})
        for name, some in [
            *((str(each), [case for case in cases if case.section == each]) for each in sections),
            ("all", cases),
        ]:
            count = Counter(case.verdict for case in some)
            rows.append((agent, name, str(len(some)), *(str(count[each]) for each in columns)))
    header, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([header, "|---|" + "---:|" * (len(columns) + 2), *body]) + "\n"


def wrong(report: dict[str, list[Case]]) -> str:
    """The cases that are not strictly right, a line each."""
    return "".join(
        f"{agent}: {case.number} {case.behavior}, close {case.close}\n"
        for agent, cases in report.items()
        for case in cases
        if case.verdict not in ("ok", "informational")
    )


def run(options: argparse.Namespace, folder: Path) -> dict[str, list[Case]]:
    """The suite against a server of its own; its pages are kept in the folder."""
    with Server(APP, workers=1, environment={}, stderr=folder / "server.log") as server:
        url = f"ws://127.0.0.1:{server.port}"
        servers = [{"agent": agent, "url": url + path} for agent, path in AGENTS.items()]
        spec = {
            "outdir": str(folder),
            "servers": servers,
            "cases": options.cases.split(","),
            "exclude-cases": [f"{section}.*" for section in options.exclude.split(",") if section],
            "exclude-agent-cases": {},
        }
        (folder / "spec.json").write_text(json.dumps(spec))
        command = [options.python2, "-W", "ignore", "-c", WSTEST, str(options.suite)]
        subprocess.run(
            [*command, "--mode", "fuzzingclient", "--spec", str(folder / "spec.json")],
            check=True,
            timeout=RUN_AT_MOST_S,
        )
    return read(folder / "index.json")


def document(options: argparse.Namespace, report: dict[str, list[Case]]) -> str:
    """What docs/conformance.md says of this run."""
    suite = (ROOT / "tests/autobahn/requirements.txt").read_text().strip().replace("==", " ")
    left_out = f", without the sections {options.exclude}" if options.exclude else ""
    day = datetime.now(timezone.utc).date()
    return f"Measured on {day} with `{suite}`{left_out}:\n\n{table(report)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python2", required=True, help="a Python 2.7, which the suite needs")
    parser.add_argument("--suite", type=Path, required=True, help="where the suite is installed")
    parser.add_argument("--cases", default="*", help="such as 1.*,7.1.5")
    parser.add_argument("--exclude", default="", help="sections, such as 12,13")
    parser.add_argument("--pages", type=Path, help="keep the suite's own pages in this folder")
    parser.add_argument("--markdown", action="store_true", help="write docs/conformance.md")
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = options.pages or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = run(options, folder)
    sys.stdout.write(f"\n{table(report)}{wrong(report)}")
    if not passed(report):
        sys.stdout.write("Not all cases are strictly right.\n")
        return 1
    if options.markdown:
        text = DOCUMENT.read_text().partition(MARK)[0]
        DOCUMENT.write_text(f"{text}{MARK}\n{document(options, report)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
