"""``python -m tests.damage --seeds 50`` and ``--kills 50``: the long forms. Exit code 1 where something is wrong."""

import argparse
import time

from tests.damage.kills import COMMANDS, kill
from tests.damage.readers import READERS
from tests.damage.settings import typed_faults
from tests.damage.trials import summary, trials


def main() -> int:
    """Run the trials that were asked for and print the faults."""
    parser = argparse.ArgumentParser(description="Damaged files and odd values, all readers and all keys.")
    parser.add_argument("--seeds", type=int, default=50, help="draws of each kind of damage")
    parser.add_argument("--reader", help="only the readers whose file's name contains this, or this command")
    parser.add_argument("--no-settings", action="store_true", help="files only")
    parser.add_argument("--kills", type=int, default=0, help="kill every command so often, and do nothing else")
    options = parser.parse_args()
    if options.kills:
        return _kill(options.kills, options.reader)
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


def _kill(kills: int, only: str | None) -> int:
    faults = 0
    for command in COMMANDS:
        if only in (None, command.name):
            begun = time.monotonic()
            for problem in kill(command, kills, seed=0):
                faults += 1
                print(problem, flush=True)
            print(f"{command.name}: {kills} times killed, {time.monotonic() - begun:.0f} s", flush=True)
    print(f"{faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
