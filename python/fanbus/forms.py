"""What a form has sent: fields and files by name, in the order in which they came."""

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

_COPIED_AT_A_TIME = 1024 * 1024


class Upload:
    """A file of a form.

    A small one is in memory, a larger one in a file without a name, which is gone with the request.
    `read` and `save` give their value in a synchronous handler, and something to await in an
    asynchronous one.
    """

    __slots__ = ("_asynchronous", "_part", "_position")

    def __init__(self, part: Part, asynchronous: bool) -> None:
        """Handlers get it from `request.form()`; it is not made by hand."""
        self._part = part
        self._asynchronous = asynchronous
        self._position = 0

    @property
    def filename(self) -> str:
        """The name that the client gives it. It may be anything: never use it as a path."""
        return self._part.filename

    @property
    def content_type(self) -> str | None:
        """What the client says it is, as in `image/png`."""
        return self._part.content_type

    @property
    def size(self) -> int:
        """In bytes."""
        return self._part.size

    def seek(self, position: int) -> None:
        """Where `read` goes on, in bytes from the beginning. ValueError if it is negative."""
        if position < 0:
            raise ValueError(f"An upload has no position {position}: it begins with 0.")
        self._position = position

    def read(self, size: int = -1) -> Any:
        """The next `size` bytes; all that are left if it is negative. Empty at the end."""
        return self._give(lambda: self._read(size))

    def save(self, path: str | PathLike[str]) -> Any:
        """Writes all of it to a file, which is replaced if it is there."""
        return self._give(lambda: self._save(Path(path)))

    def _read(self, size: int) -> bytes:
        most = max(self.size - self._position, 0) if size < 0 else size
        read = self._part.read_at(self._position, most)
        self._position += len(read)
        return read

    def _save(self, path: Path) -> None:
        with path.open("wb") as file:
            for position in range(0, self.size, _COPIED_AT_A_TIME):
                file.write(self._part.read_at(position, _COPIED_AT_A_TIME))

    def _give(self, work: Callable[[], _T]) -> _T | Awaitable[_T]:
        """What comes from a disk, or goes there, must not hold up the event loop."""
        return _on_a_thread(work) if self._asynchronous else work()

    def __repr__(self) -> str:
        return f"<Upload {self.filename!r}: {self.size} bytes>"


async def _on_a_thread(work: Callable[[], _T]) -> _T:
    import asyncio  # here, so that `import fanbus` stays quick

    return await asyncio.get_running_loop().run_in_executor(None, work)


class Pairs(Mapping[str, _T], Generic[_T]):
    """A read-only mapping of names to their first values; `get_all` gives every one.

    `[name]` raises MissingError, a KeyError that is answered with 400, if the name has not come.
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
        """Every value of `name`, in the order in which they came."""
        return list(self._values.get(name, ()))

    def pairs(self) -> list[tuple[str, _T]]:
        """Every name and value, in the order in which they came."""
        return list(self._pairs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {dict(self)!r}>"


class Form(Pairs["str | Upload"]):
    """What a form has sent: str for each field, `Upload` for each file.

    `fields` and `files` are the same, apart.
    """

    __slots__ = ("fields", "files")

    fields: Pairs[str]
    files: Pairs[Upload]

    def __init__(self, pairs: Iterable[tuple[str, str | Part]], asynchronous: bool) -> None:
        """Handlers get it from `request.form()`; it is not made by hand."""
        super().__init__(
            (name, Upload(value, asynchronous) if isinstance(value, Part) else value)
            for name, value in pairs
        )
        self.fields = Pairs((name, value) for name, value in self._pairs if isinstance(value, str))
        self.files = Pairs(
            (name, value) for name, value in self._pairs if isinstance(value, Upload)
        )
