"""The OpenAPI document that describes the routes of an application.

https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import AsyncIterable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from fanbus._core import to_json
from fanbus.events.generated_stream import Events
from fanbus.events.topic_stream import EventStream
from fanbus.exceptions import FanbusError, RouteError
from fanbus.openapi.settings import OpenAPI
from fanbus.parameters.annotations import resolved
from fanbus.parameters.binding import BoundParameter
from fanbus.parameters.models import decoder, has_model, schemas
from fanbus.parameters.scalars import scalar
from fanbus.parameters.signature import location, signature
from fanbus.routing.routes import Served

__all__ = ["document"]

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_REFERENCE = "#/components/schemas/{name}"
_REFUSAL = "fanbus.ValidationError"
_CONVERTERS: dict[str, dict[str, Any]] = {
    "str": {"type": "string", "minLength": 1},
    "path": {"type": "string", "minLength": 1},
    "int": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
    "float": {"type": "number", "minimum": 0},
    "uuid": {"type": "string", "format": "uuid"},
}
_PROBLEMS = {
    "type": "object",
    "description": "The errors in the values of a request.",
    "required": ["detail"],
    "properties": {
        "detail": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["loc", "msg", "type"],
                "properties": {
                    "loc": {
                        "type": "array",
                        "description": "Where: path, query, header, cookie or body, and the name.",
                        "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                    },
                    "msg": {"type": "string", "description": "The error, as a sentence."},
                    "type": {"type": "string", "description": "missing, invalid, or more exact."},
                },
            },
        }
    },
}


@dataclass
class _Models:
    """The types whose schemas the libraries make, all at once. Each schema is filled in then."""

    types: dict[str, list[Any]] = field(default_factory=lambda: {"received": [], "sent": []})
    places: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    def add(self, side: str, annotation: Any) -> dict[str, Any]:
        """A schema that is empty until `fill`."""
        place: dict[str, Any] = {}
        self.places[side, len(self.types[side])] = place
        self.types[side].append(annotation)
        return place

    def fill(self) -> dict[str, Any]:
        """Fills in the schemas. Returns the models that they refer to, by name."""
        try:
            by_key, components = schemas(self.types["received"], self.types["sent"], _REFERENCE)
        except Exception as error:
            raise FanbusError(f"The OpenAPI document cannot be made: {error}") from error
        for key, place in self.places.items():
            place.update(by_key[key])
        return components


def document(
    name: str,
    served: Sequence[Served],
    settings: OpenAPI,
    *,
    parameters: Callable[[str], Mapping[str, str]],
    template: Callable[[str], str],
) -> dict[str, Any]:
    """The document of an application. FanbusError if a type has no schema.

    `parameters` returns the parameters of a path with their converters; `template` returns the path
    in the form of OpenAPI.
    """
    models = _Models()
    paths: dict[str, dict[str, Any]] = {}
    tags: dict[str, None] = {}
    ids: set[str] = set()
    included = [each for each in served if each.route.described.is_included]
    for each in included:
        route = each.route
        methods = [method.lower() for method in route.methods if method.lower() in _METHODS]
        for method in methods:
            operation = _operation(each, parameters(route.path), models)
            wanted = route.name if len(methods) == 1 else f"{route.name}.{method}"
            operation["operationId"] = _unused(wanted, ids)
            tags.update(dict.fromkeys(operation.get("tags", ())))
            paths.setdefault(template(route.path), {})[method] = operation
    components = models.fill()
    if any(each.handler.inputs for each in included):
        components[_REFUSAL] = _PROBLEMS
    result: dict[str, Any] = {
        "openapi": "3.1.1",
        "info": {"title": settings.title or name, "version": settings.version},
        "paths": paths,
    }
    if settings.description:
        result["info"]["description"] = settings.description
    if components:
        result["components"] = {"schemas": dict(sorted(components.items()))}
    if tags:
        result["tags"] = [{"name": tag} for tag in tags]
    return deepcopy(result)  # the caller may change it, and parts of it are shared


def _operation(served: Served, converters: Mapping[str, str], models: _Models) -> dict[str, Any]:
    route, inputs = served.route, served.handler.inputs
    operation = _texts(route.function, route.name)
    tags = route.described.tags or ((route.group,) if route.group else ())
    if tags:
        operation["tags"] = list(tags)
    if route.described.is_deprecated:
        operation["deprecated"] = True
    by_name = {each.name: each for each in inputs if each.place == "path"}
    listed = [
        _parameter(by_name[name])
        if name in by_name
        else {"name": name, "in": "path", "required": True, "schema": _CONVERTERS[converter]}
        for name, converter in converters.items()
    ]
    listed += [_parameter(each) for each in inputs if each.place not in ("path", "body")]
    if listed:
        operation["parameters"] = listed
    responses = _responses(route.function, models)
    refusals = _refusals(inputs, converters)
    for body in (each for each in inputs if each.place == "body"):
        operation["requestBody"] = {
            **({"description": body.description} if body.description else {}),
            "required": body.is_required,
            "content": {"application/json": {"schema": models.add("received", body.annotation)}},
        }
    for status, described in route.described.responses.items():
        responses[str(status)] = _described_response(status, described, models)
    operation["responses"] = dict(sorted({**refusals, **responses}.items()))
    return operation


def _texts(function: Callable[..., Any], name: str) -> dict[str, Any]:
    """The summary, which is the first paragraph of the docstring, and the rest as description."""
    text = inspect.getdoc(function) if hasattr(function, "__name__") else None
    first, _, rest = (text or "").partition("\n\n")
    plain = name.rpartition(".")[2].replace("_", " ").strip()
    texts: dict[str, Any] = {"summary": " ".join(first.split()) or plain.capitalize()}
    if rest.strip():
        texts["description"] = rest.strip()
    return texts


def _parameter(bound: BoundParameter) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": bound.name, "in": bound.place, "required": bound.is_required}
    if bound.description:
        entry["description"] = bound.description
    if bound.deprecated:
        entry["deprecated"] = True
    entry["schema"] = dict(bound.schema)
    if not bound.is_required and bound.default is not None:
        with suppress(TypeError, ValueError):  # a default without a JSON form is left out
            entry["schema"]["default"] = json.loads(to_json(bound.default))
    return entry


def _refusals(inputs: Sequence[BoundParameter], converters: Mapping[str, str]) -> dict[str, Any]:
    """The responses that Fanbus sends without a call of the handler."""
    texts = {}
    if {"int", "float", "uuid"} & set(converters.values()):
        texts[404] = "The path has something else where a parameter is"
    if any(each.place == "body" for each in inputs):
        texts[400] = "The body is not JSON"
        texts[413] = "The body is too large"
        texts[415] = "The Content-Type of the body is not JSON"
    content = {"text/plain": {"schema": {"type": "string"}}}
    refusals: dict[str, Any] = {
        str(status): {"description": text, "content": content} for status, text in texts.items()
    }
    if inputs:
        schema = {"$ref": _REFERENCE.format(name=_REFUSAL)}
        refusals["422"] = {
            "description": "A value is missing or wrong",
            "content": {"application/json": {"schema": schema}},
        }
    return refusals


def _responses(function: Callable[..., Any], models: _Models) -> dict[str, Any]:
    """The responses that the return annotation describes."""
    try:
        written = signature(inspect.unwrap(function)).return_annotation
        is_empty = written is inspect.Signature.empty
        annotation = Any if is_empty else _resolved_return(function, written)
    except (RouteError, TypeError, ValueError):  # only the document uses it: the handler works
        annotation = Any
    responses: dict[str, Any] = {}
    for status, kind in _typed_responses(annotation):
        response = responses.setdefault(status, {"description": _phrase(status)})
        for content_type, schema in _content(kind, models):
            content = response.setdefault("content", {})
            first = content.setdefault(content_type, {"schema": schema})["schema"]
            if first is not schema:
                several = first["anyOf"] if first.keys() == {"anyOf"} else [first]
                content[content_type]["schema"] = {"anyOf": [*several, schema]}
    return responses


def _resolved_return(function: Callable[..., Any], annotation: Any) -> Any:
    # A hint of None means the type of None.
    kind = resolved(annotation, function, "return", location(function))
    return None if kind is type(None) else kind


def _typed_responses(annotation: Any) -> Iterator[tuple[str, Any]]:
    """The statuses of an annotation, each with the type of its body."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from _typed_responses(each)
        return
    if annotation is None or annotation is type(None):
        yield "204", Any
        return
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple and 2 <= len(arguments) <= 3 and arguments[1] is not ...:
        kind = Any if arguments[0] is type(None) else arguments[0]
        if get_origin(arguments[1]) is Literal:
            for status in get_args(arguments[1]):
                yield str(int(status)), kind
        else:
            yield "default", kind
        return
    yield "200", annotation


def _content(kind: Any, models: _Models) -> Iterator[tuple[str, dict[str, Any]]]:
    """The media type of a response and its schema; nothing if the type does not determine them."""
    origin = get_origin(kind) or kind
    if isinstance(origin, type) and issubclass(origin, str):
        yield "text/plain", {"type": "string"}
    elif isinstance(origin, type) and issubclass(origin, bytes):
        yield "application/octet-stream", {}
    elif origin in (EventStream, Events):
        yield "text/event-stream", {}
    elif has_model(kind) or (isinstance(origin, type) and issubclass(origin, (dict, list))):
        yield "application/json", _sent(kind, models)
    elif isinstance(origin, type) and issubclass(origin, (Iterator, AsyncIterable)):
        yield "text/plain", {"type": "string"}


def _sent(kind: Any, models: _Models) -> dict[str, Any]:
    """The schema of the JSON that a value of the type becomes."""
    if has_model(kind):
        try:
            decoder(kind)
        except TypeError:  # a dataclass, and no library that can make its schema
            return {}
        return models.add("sent", kind)
    arguments = get_args(kind)
    origin = get_origin(kind) or kind
    if origin is Annotated:
        return _sent(arguments[0], models)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_sent(each, models) for each in arguments]}
    if kind is type(None):
        return {"type": "null"}
    if origin is list:
        return {"type": "array", "items": _sent(arguments[0], models) if arguments else {}}
    if origin is dict:
        values = _sent(arguments[1], models) if arguments else {}
        return {"type": "object", **({"additionalProperties": values} if values else {})}
    value = scalar(kind)
    return dict(value.schema) if value else {}


def _described_response(status: int, described: Any, models: _Models) -> dict[str, Any]:
    """A response that a decorator describes, by a string or by a type."""
    if isinstance(described, str):
        return {"description": described}
    response: dict[str, Any] = {"description": _phrase(str(status))}
    for content_type, schema in () if described is None else _content(described, models):
        response["content"] = {content_type: {"schema": schema}}
    return response


def _phrase(status: str) -> str:
    try:
        return HTTPStatus(int(status)).phrase
    except ValueError:
        return "The answer"


def _unused(name: str, taken: set[str]) -> str:
    """The name, with a number after it if the name is in use."""
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}.{number}"
    taken.add(candidate)
    return candidate
