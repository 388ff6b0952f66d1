"""Traffic into files, off the request path; see cascade.rotating."""

from __future__ import annotations

from collections.abc import Mapping

from cascade.rotating import Layout, RotatingWriter, Rotation
from cascade.traffic import TrafficRecord, keyed, without_content
from cascade.traffic_files import SUFFIX, to_row, to_table


class TrafficSettings(Rotation):
    """Where traffic goes. `content` keeps the texts, without which queries cannot become documents. A file is closed
    at `rows` records or after `seconds`; beyond `queue` records that wait to be written, more are dropped."""

    content: bool = False


class TrafficWriter(RotatingWriter[TrafficRecord]):
    """Writes records to `settings.folder`; any thread may `put`. `close` writes what is left.

    Raises: ConfigError if the folder cannot be made.
    """

    def __init__(self, settings: TrafficSettings) -> None:
        def row(record: TrafficRecord) -> Mapping[str, object]:
            full = keyed(record)
            return to_row(full if settings.content else without_content(full))

        super().__init__(settings, Layout("traffic record", SUFFIX, row, to_table))
