"""A process that spends until it is killed: `python killed_spender.py JOURNAL`."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from cascade.gateway.budgets import Budgets
from cascade.gateway.key_records import Caps

budgets = Budgets(Path(sys.argv[1]))
purse = budgets.purse("k", Caps(total=1e6))
assert purse is not None
for number in count(1):
    purse.reserve(0.005).settle(0.001)
    print(number, flush=True)
