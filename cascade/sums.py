"""Counters that are kept here and read when somebody collects, for a tenth of the time that the SDK's own take."""

from __future__ import annotations

from curator import telemetry


class Sums:
    """A counter per combination of attributes, whose names are `keys`. One per name and process."""

    def __init__(self, name: str, unit: str, description: str, keys: tuple[str, ...]) -> None:
        self._keys = keys
        self._sums: dict[tuple[str, ...], float] = {}
        telemetry.observe(name, unit, description, self.read, sums=True)

    def add(self, amount: float, *values: str) -> None:
        """`values` are those of the keys, in their order."""
        self._sums[values] = self._sums.get(values, 0) + amount

    def read(self) -> list[tuple[float, telemetry.Attributes]]:
        """The sums so far, each with its attributes. Any thread may ask."""
        return [(found, dict(zip(self._keys, values, strict=True))) for values, found in list(self._sums.items())]
