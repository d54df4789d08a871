"""Schemathesis makes requests of the OpenAPI document that nobody thinks of, valid ones and wrong
ones: none is answered with 5xx, and all answers are what the document says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from conftest import StartServer
from support.paths import TESTS

EXAMPLES = 25
"""For each operation, besides those that lie at the edges of its schema: about 15 s."""


def test_schemathesis_finds_nothing(server: StartServer, tmp_path: Path) -> None:
    typed = server("typed_handlers", workers=1)
    told = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "schemathesis"), "run"),
            f"http://127.0.0.1:{typed.port}/openapi.json",
            *("--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES)),
            "--generation-deterministic",
            *("--request-timeout", "20", "--no-color"),
        ],
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "support.whole_numbers",
            "PYTHONPATH": str(TESTS),
        },
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout
    assert "Tested: 15" in told.stdout, told.stdout
    made = re.search(r"(\d+) generated", told.stdout)
    assert made is not None
    assert int(made[1]) > 500, told.stdout
    assert "Traceback" not in typed.log()
