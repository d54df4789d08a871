"""Celery tasks that publish their progress on the bus, and read answers from it, while they run.

celery --workdir examples/any_process --app celery_tasks worker --concurrency 2 --loglevel INFO

Celery's queue gives each task to one worker; the bus shows it to all processes. The broker here is
a folder, so that the example runs without a service. With Redis or RabbitMQ nothing else changes.
"""

import os
import tempfile
from pathlib import Path

from celery import Celery
from celery.signals import worker_process_init

from fanbus import Bus

FOLDER = Path(os.environ.get("CELERY_FOLDER", Path(tempfile.gettempdir()) / "fanbus-celery"))
FOLDER.mkdir(parents=True, exist_ok=True)

app = Celery("celery_tasks", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": str(FOLDER),
    "data_folder_out": str(FOLDER),
    "control_folder": str(FOLDER / "control"),
    "polling_interval": 0.1,  # seconds
}

bus: Bus


@worker_process_init.connect
def open_bus(**_: object) -> None:
    """Each child of the pool opens the bus itself: it cannot use one from before the fork.

    It need not be closed: a child that ends, or is killed, leaves the bus.
    """
    global bus
    bus = Bus.open(os.environ.get("FANBUS_BUS", "demo"), create=True)


@app.task
def order(what: str) -> None:
    """Sends a question to the subscribers of "news", and waits for the first answer."""
    with bus.subscribe(f"answers:{what}") as answers:
        bus.publish("news", f"{what}? asks process {os.getpid()}")
        answer = str(next(answers).message)
    bus.publish("news", f"{what}: {answer}")
