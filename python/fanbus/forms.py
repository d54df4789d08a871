"""The form that a client sends: fields and files by name, in the order of the request body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fanbus._core import Part
from fanbus.exceptions import MissingError

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["Form", "Upload"]

_T = TypeVar("_T")

_COPY_CHUNK_BYTES = 1024 * 1024


class Upload:
    """A file of a form.

    A small one is in memory, a larger one in a file without a name, which disappears with the
    request. `read` and `save` return their result in a synchronous handler, and an awaitable in an
    asynchronous one.
    """

    __slots__ = ("_asynchronous", "_part", "_position")

    def __init__(self, part: Part, asynchronous: bool) -> None:
        """Not for users: handlers get it from `request.form()`."""
        self._part = part
        self._asynchronous = asynchronous
        self._position = 0

    @property
    def filename(self) -> str:
        """The name from the client. It may be any string: never use it as a path."""
        return self._part.filename

    @property
    def content_type(self) -> str | None:
        """The content type from the client, as in `image/png`."""
        return self._part.content_type

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self._part.size

    def seek(self, position: int) -> None:
        """Sets the position of the next `read`, in bytes from the beginning. ValueError if it is
        negative."""
        if position < 0:
            raise ValueError(f"An upload has no position {position}: it begins with 0.")
        self._position = position

    def read(self, size: int = -1) -> Any:
        """The next `size` bytes; all remaining bytes if it is negative. Empty at the end."""
        return self._run(lambda: self._read(size))

    def save(self, path: str | PathLike[str]) -> Any:
        """Writes the whole upload to a file. It replaces an existing file."""
        return self._run(lambda: self._save(Path(path)))

    def _read(self, size: int) -> bytes:
        limit = max(self.size - self._position, 0) if size < 0 else size
        data = self._part.read_at(self._position, limit)
        self._position += len(data)
        return data

    def _save(self, path: Path) -> None:
        with path.open("wb") as file:
            for position in range(0, self.size, _COPY_CHUNK_BYTES):
                file.write(self._part.read_at(position, _COPY_CHUNK_BYTES))

    def _run(self, work: Callable[[], _T]) -> _T | Awaitable[_T]:
        """Runs the work, on a thread for an asynchronous handler: disk access must not block the
        event loop."""
        return _run_on_thread(work) if self._asynchronous else work()

    def __repr__(self) -> str:
        return f"<Upload {self.filename!r}: {self.size} bytes>"


async def _run_on_thread(work: Callable[[], _T]) -> _T:
    import asyncio  # here, so that `import fanbus` stays fast

    return await asyncio.get_running_loop().run_in_executor(None, work)


class Pairs(Mapping[str, _T], Generic[_T]):
    """A read-only mapping of names to their first values; `get_all` returns all values of a name.

    `[name]` raises MissingError for a name that is not in the request: a KeyError, and a response
    with 400.
    """

    __slots__ = ("_pairs", "_values")

    def __init__(self, pairs: Iterable[tuple[str, _T]]) -> None:
        self._pairs = tuple(pairs)
        self._values: dict[str, list[_T]] = {}
        for name, value in self._pairs:
            self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> _T:
        if name not in self._values:
            raise MissingError(name)
        return self._values[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get_all(self, name: str) -> list[_T]:
        """All values of `name`, in the order of the request."""
        return list(self._values.get(name, ()))

    def pairs(self) -> list[tuple[str, _T]]:
        """All names and values, in the order of the request."""
        return list(self._pairs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {dict(self)!r}>"


class Form(Pairs["str | Upload"]):
    """The fields and files of a form: a str for each field, an `Upload` for each file.

    `fields` has the fields only, `files` the files only.
    """

    __slots__ = ("fields", "files")

    fields: Pairs[str]
    files: Pairs[Upload]

    def __init__(self, pairs: Iterable[tuple[str, str | Part]], asynchronous: bool) -> None:
        """Not for users: handlers get it from `request.form()`."""
        super().__init__(
            (name, Upload(value, asynchronous) if isinstance(value, Part) else value)
            for name, value in pairs
        )
        self.fields = Pairs((name, value) for name, value in self._pairs if isinstance(value, str))
        self.files = Pairs(
            (name, value) for name, value in self._pairs if isinstance(value, Upload)
        )
