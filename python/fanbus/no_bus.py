"""The error for a bus that does not exist, with the names of those that do."""

from __future__ import annotations

from fanbus import _core

__all__ = ["no_bus"]

_MOST_NAMES = 5


def no_bus(name: str, advice: str = "") -> str:
    """The message for a bus that cannot be joined. `advice` comes last, if there is no such bus."""
    import difflib  # here, so that a program whose bus is there goes without it

    names = [bus["name"] for bus in _core.buses()]
    if name in names:
        return (
            f'The bus "{name}" is not in use and cannot be joined: another version of Fanbus left '
            "it, or its memory is damaged. Start its server, which replaces it, or remove it: "
            f"fanbus bus remove {name}."
        )
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        others = f'Did you mean "{close[0]}"?'
    elif not names:
        others = "This user has no bus at all."
    else:
        more = len(names) - _MOST_NAMES
        shown = ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
        others = f"The buses of this user: {shown}."
    hint = "A server makes its bus when it starts: is it running, under this user?"
    return " ".join(filter(None, [f'There is no bus "{name}".', others, hint, advice]))
