"""``python -m bench.cli``: the command line, for launchers that start modules (torchrun)."""

from bench.cli import main

main()
