"""Runs a program that calls `app.run(...)`, but on another port, and on this machine only.

    PORT=0 python tests/support/serve_on.py PROGRAM

So the programs in the documentation can be tested exactly as they are printed there.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

from fanbus import Fanbus


def main() -> None:
    """Gives every `run` the port in PORT, and leaves the rest to the program."""
    run = Fanbus.run

    def run_here(app: Fanbus, **options: Any) -> None:
        run(app, **{**options, "host": "127.0.0.1", "port": int(os.environ["PORT"])})

    Fanbus.run = run_here  # type: ignore[method-assign, assignment]
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
