"""The stubs say what the binary has."""

from __future__ import annotations

import subprocess
import sys


def test_the_stubs_agree_with_the_binary() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "fanbus._core", "fanbus_bench._core"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
