"""Publishes one line: `python publisher.py news "It works"`. Any script can do this."""

import os
import sys

from fanbus import Bus

with Bus.open(os.environ.get("FANBUS_BUS", "demo")) as bus:
    offset = bus.publish(sys.argv[1], sys.argv[2])
print(f"published as number {offset}")
