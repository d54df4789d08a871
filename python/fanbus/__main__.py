"""`python -m fanbus` is the command `fanbus`."""

import sys

from fanbus.cli import main

sys.exit(main())
