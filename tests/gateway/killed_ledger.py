"""A process that enters attempts until it is killed: `python killed_ledger.py FOLDER`."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from cascade.gateway.ledger import Ledger, LedgerSettings
from cascade.gateway.ledger_files import Entry
from curator.types import Usage

ledger = Ledger(LedgerSettings(folder=Path(sys.argv[1]), rows=50, seconds=0.05))
for number in count():
    ledger.put(Entry(datetime.now(UTC), str(number), "", "small", "m", "answer", Usage(1, 1), None, "USD"))
    if number % 20 == 0:
        print(ledger.counts.written, flush=True)
        time.sleep(0.001)
