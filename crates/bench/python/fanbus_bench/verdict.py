"""The verdict that compares settings by the figures of several rounds. It runs no processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Setting", "Verdict", "judge"]


@dataclass(frozen=True, order=True)
class Setting:
    """The number of workers, and the number of threads in each for synchronous handlers."""

    workers: int
    threads: int

    def __str__(self) -> str:
        return f"{_count(self.workers, 'worker')} x {_count(self.threads, 'thread')}"


@dataclass(frozen=True)
class Verdict:
    """The fewest workers and threads that are as good as the best, with remarks."""

    best: Setting
    sentences: tuple[str, ...]


def judge(rounds: Mapping[Setting, Sequence[float]]) -> Verdict:
    """Judges the figures of each setting. A higher figure is better; each setting has at least one.

    Two settings are alike if their ranges over the rounds overlap: no round distinguishes them.
    """
    top = max(rounds, key=lambda setting: median(rounds[setting]))
    best = min(setting for setting in rounds if _alike(rounds[setting], rounds[top]))
    sentences = [f"Best: {best}, {median(rounds[best]):,.0f} per second."]
    if best != top:
        sentences.append(
            f"{top} had {median(rounds[top]):,.0f}, which is within the noise of it: "
            "fewer processes and threads take less memory."
        )
    alike = [setting.threads for setting in rounds if setting.workers == best.workers]
    if len(alike) > 1 and all(
        _alike(rounds[Setting(best.workers, threads)], rounds[best]) for threads in alike
    ):
        sentences.append(
            "The number of threads makes no difference here: leave it as it is, unless synchronous "
            "handlers that were not measured wait for something."
        )
    sentences += _worse(rounds)
    return Verdict(best, tuple(sentences))


def _worse(rounds: Mapping[Setting, Sequence[float]]) -> list[str]:
    """Sentences on numbers of workers that are worse than a smaller one, by their best figures."""
    rows: dict[int, Sequence[float]] = {}
    for setting in sorted(rounds):
        here = rows.get(setting.workers)
        if here is None or median(rounds[setting]) > median(here):
            rows[setting.workers] = rounds[setting]
    peak = max(rows, key=lambda workers: median(rows[workers]))
    for workers in sorted(rows):
        if workers > peak and max(rows[workers]) < min(rows[peak]):
            return [
                f"More than {_count(peak, 'worker')} make it worse: "
                f"{median(rows[workers]):,.0f} per second with {workers}."
            ]
    return []


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    return min(one) <= max(other) and min(other) <= max(one)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
