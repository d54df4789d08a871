"""Event streams (Server-Sent Events): of a topic, or of what a generator makes."""

from fanbus.events.event import Event
from fanbus.events.generated_stream import Events
from fanbus.events.topic_stream import EventStream

__all__ = ["Event", "EventStream", "Events"]
