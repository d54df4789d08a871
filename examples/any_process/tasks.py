"""A task worker, as in Celery: it takes jobs from the bus, works, and publishes the results.

Several workers may run, but a bus is not a queue: each of them gets every job. Divide the work by
topic (`python tasks.py jobs:1`), or use a queue for jobs and the bus for progress.
"""

import os
import sys

from fanbus import Bus, Lagged


def work(job: str | bytes) -> str:
    text = job if isinstance(job, str) else job.decode(errors="replace")
    return text.upper()


def main() -> None:
    topic = sys.argv[1] if len(sys.argv) > 1 else "jobs"
    with Bus.open(os.environ.get("FANBUS_BUS", "demo"), create=True) as bus:
        jobs = bus.subscribe(topic)
        print(f"waiting for {topic}", flush=True)
        while True:
            try:
                for job in jobs:
                    bus.publish("news", f"done: {work(job.message)}")
            except Lagged as lagged:
                print(f"too slow: {lagged.missed} messages missed", flush=True)


if __name__ == "__main__":
    main()
