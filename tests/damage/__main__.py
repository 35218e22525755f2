"""``python -m tests.damage --seeds 50``: the long form. Exit code 1 where something is not as it should be."""

import argparse
import time

from tests.damage.readers import READERS
from tests.damage.settings import typed_faults
from tests.damage.trials import summary, trials


def main() -> int:
    """Run the trials that were asked for and print the faults."""
    parser = argparse.ArgumentParser(description="Damaged files and odd values, all readers and all keys.")
    parser.add_argument("--seeds", type=int, default=50, help="draws of each kind of damage")
    parser.add_argument("--reader", help="only the readers whose file's name contains this")
    parser.add_argument("--no-settings", action="store_true", help="files only")
    options = parser.parse_args()
    begun = time.monotonic()
    readers = [reader for reader in READERS if not options.reader or options.reader in reader.name]
    found = []
    for fault in trials(range(options.seeds), readers):
        found.append(fault)
        if fault is not None:
            print(fault)
    print(summary(found))
    typed = [] if options.no_settings else list(typed_faults())
    print(*typed, f"{len(typed)} faults of values typed for keys", sep="\n")
    print(f"{time.monotonic() - begun:.0f} s")
    return 1 if typed or any(found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
