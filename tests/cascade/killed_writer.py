"""A process that writes traffic until it is killed: `python killed_writer.py FOLDER`."""

from __future__ import annotations

import sys
import time
from itertools import count
from pathlib import Path

from traffic_builders import decided

from cascade.traffic_writer import TrafficSettings, TrafficWriter

writer = TrafficWriter(TrafficSettings(folder=Path(sys.argv[1]), content=True, rows=50, seconds=0.05))
for number in count():
    writer.put(decided(number))
    if number % 20 == 0:
        print(writer.counts.written, flush=True)
        time.sleep(0.001)
