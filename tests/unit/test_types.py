"""A user's file is clean under the two type checkers that people use, at their strictest.

mypy reads it with everything else (`make lint`), and the packages' own errors fail there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.chromium import ROOT, needed, node
from support.paths import APPS

USERS = APPS / "annotated.py"


def test_mypy_finds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", str(USERS)]
    told = subprocess.run(
        [*command, "--cache-dir", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr


def pyright(file: Path, folder: Path) -> tuple[int, list[str]]:
    """How many files it has read, and what it says."""
    needed((ROOT / "node_modules" / "pyright").exists(), "pyright (npm)")
    shutil.copy(file, folder / "users.py")
    project = folder / "pyrightconfig.json"
    project.write_text(json.dumps({"typeCheckingMode": "strict", "include": ["users.py"]}))
    command = [node(), str(ROOT / "node_modules/pyright/index.js"), "--outputjson"]
    told = subprocess.run(
        [*command, "--project", str(project), "--pythonpath", sys.executable],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(told.stdout)
    said = [
        f"{each['range']['start']['line'] + 1}: {each['message']}"
        for each in found["generalDiagnostics"]
    ]
    return found["summary"]["filesAnalyzed"], said


@pytest.mark.timeout(180)
def test_pyright_finds_nothing(tmp_path: Path) -> None:
    assert pyright(USERS, tmp_path) == (1, [])


@pytest.mark.timeout(180)
def test_pyright_finds_a_mistake(tmp_path: Path) -> None:
    """So it has read the package's types, and not taken everything for Any."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from fanbus import Fanbus\n"
        "app = Fanbus('x', openapi='yes')\n"
        "@app.get('/', tags=3)\n"
        "def handler() -> str:\n    return app.publish('a', 'b')\n"
    )
    files, said = pyright(wrong, tmp_path)
    assert files == 1
    assert {int(each.partition(":")[0]) for each in said} == {2, 3, 5}, said
