"""``python -m bench.cli``: the command line, for launchers that start modules (torchrun)."""

from bench.cli import main
from bench.cli.launch import end_with_launcher

end_with_launcher()
main()
