"""Appends records to a store until it is done or killed; prints each number that was acknowledged.

Run by test_runs.py: python killed_run.py <store> <rows>
"""

from __future__ import annotations

import os
import sys

from store_builders import decided, key_of, link

from curator.store import Store, runs

runs.FLUSH_SECONDS = 0.02
runs.FLUSH_SHARE = 0.5


def main() -> None:
    store, rows = Store(sys.argv[1], wait=60), int(sys.argv[2])
    with store.run("work", {}) as run:
        known = run.known([key_of(number) for number in range(rows)])
        os.write(1, b"begin\n")
        for number in range(rows):
            if key_of(number) not in known:
                run.append(decided(number))
            run.append(link(f"doc-{number}", number))
            os.write(1, b"%d\n" % number)


if __name__ == "__main__":
    main()
