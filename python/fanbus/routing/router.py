"""The router that groups routes, and that an application or another router includes.

An application and a router have the same decorators. A router adds its routes to each place that
includes it, also the routes that are declared later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fanbus.exceptions import RouteError
from fanbus.routing.decorators import RouteDecorators
from fanbus.routing.layer_decorators import LayerDecorators
from fanbus.routing.middleware import Layer
from fanbus.routing.routes import Route

__all__ = ["Decorators", "Router"]


class Decorators(RouteDecorators, LayerDecorators):
    """The decorators of an application and of a router, and the inclusion of routers."""

    def include(self, router: Router, *, prefix: str = "", name: str | None = None) -> None:
        """Serves the routes of a router, each at `prefix` and its own path.

        The prefix may have parameters, as in `/rooms/{room}`, which handlers take like their own.
        The router's own prefix follows it. `name`, by default the router's, is a prefix of the
        names of its routes. A router may be included several times, under different prefixes.

        Raises RouteError if the prefix or one of the routes cannot work.
        """
        if not isinstance(router, Router):
            raise RouteError(
                f"include expects a Router, got {type(router).__name__}: include(Router())."
            )
        router._include_in(_Place(self, _checked_prefix(prefix), name or router.name))


class Router(Decorators):
    """A group of routes that is declared apart from the application, and included in it.

    ```python
    rooms = Router(prefix="/rooms/{room}", name="rooms")

    @rooms.get("/people")
    def people(room: str): ...

    app.include(rooms, prefix="/api")  # serves /api/rooms/{room}/people
    ```
    """

    def __init__(self, *, prefix: str = "", name: str | None = None) -> None:
        """`prefix` is the beginning of the paths of all its routes. `name` and a dot are the
        beginning of their names in `url_for`.

        Raises RouteError for a prefix that does not begin with a slash, or ends with one.
        """
        self.prefix = _checked_prefix(prefix)
        self.name = name
        self._around = Layer()
        self._routes: list[Route] = []
        self._places: list[_Place] = []

    def _declare(self, route: Route) -> None:
        route = route.below(self.prefix, None).within(self._around)
        for place in self._places:
            place.declare(route)
        self._routes.append(route)

    def _include_in(self, place: _Place) -> None:
        if place.parent is self or (
            isinstance(place.parent, Router) and place.parent._is_below(self)
        ):
            raise RouteError(f"The router {self!r} cannot be included in itself.")
        for route in self._routes:
            place.declare(route)
        self._places.append(place)

    def _is_below(self, other: Router) -> bool:
        """Whether it is included in the other router, directly or indirectly."""
        parents = [place.parent for place in self._places if isinstance(place.parent, Router)]
        return any(parent is other or parent._is_below(other) for parent in parents)

    def __repr__(self) -> str:
        return f"<Router {self.name or self.prefix or '/'}: {len(self._routes)} routes>"


@dataclass(frozen=True)
class _Place:
    """The place where a router is included."""

    parent: Decorators
    prefix: str
    name: str | None

    def declare(self, route: Route) -> None:
        self.parent._declare(route.below(self.prefix, self.name))


def _checked_prefix(prefix: Any) -> str:
    if not isinstance(prefix, str) or (prefix and not prefix.startswith("/")):
        raise RouteError(
            f'The prefix must be a string that starts with a slash, as in "/api", got {prefix!r}.'
        )
    if prefix.endswith("/"):
        raise RouteError(
            f"The prefix {prefix!r} ends with a slash, and so would have two before each path. "
            "Leave it out."
        )
    return prefix
