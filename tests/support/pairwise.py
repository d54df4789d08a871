"""Combinations in which every two values meet, without all the combinations that there are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

__all__ = ["pairwise"]

Case = tuple[Any, ...]


def pairwise(*dimensions: Sequence[Any]) -> list[Case]:
    """Cases with one value of each dimension: any two values of any two dimensions are together in
    at least one. Always the same ones, in the same order."""
    cases = list(product(*dimensions))
    missing = {pair for case in cases for pair in pairs(case)}
    chosen = []
    while missing:
        best = max(cases, key=lambda case: len(missing & pairs(case)))
        missing -= pairs(best)
        chosen.append(best)
    return chosen


def pairs(case: Case) -> set[Case]:
    """Every two values of a case, each with the number of its dimension."""
    return set(combinations(enumerate(case), 2))
