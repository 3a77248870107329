"""facedistill COMMAND [word ...]

  compress   make a small student of a recognizer, from faces without labels
  train      train one cell of the sweep, or with -m a sweep, and whatever it stands on
  evaluate   score a finished run, or any network on the pairs of a protocol
  predict    use an exported model on photos: compare, name, landmarks, embed
  export     make model files of a run or a recognizer, each proven in its own runtime
  report     the claims of the paper answered, its tables beside ours, figures
  data       examine a data source: what is there, what is missing, what is broken
  runs       what is in runs/: list, verify, remove
  worker     train one run and nothing that it stands on, as one of several processes

facedistill COMMAND --help says more. `python -m facedistill.COMMAND` is the same.
"""

import sys
from importlib import import_module

from facedistill import __version__
from facedistill.cli import ended
from facedistill.system.terminal import REFUSED, say

COMMANDS = {
    "compress": "facedistill.compress",
    "train": "facedistill.train",
    "evaluate": "facedistill.evaluate",
    "predict": "facedistill.predict.__main__",
    "export": "facedistill.export.__main__",
    "report": "facedistill.report.__main__",
    "data": "facedistill.data.__main__",
    "runs": "facedistill.runs.__main__",
    "worker": "facedistill.worker",
}


def main() -> int:
    """The console script ``facedistill``; its exit status is that of the command."""
    return ended(_main)


def _main() -> int:
    command, words = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if command in ("--help", "-h"):
        print(__doc__)
        return 0
    if command == "--version":
        print(f"facedistill {__version__}")
        return 0
    if command not in COMMANDS:
        say(f"facedistill: no command {command!r}: choices are {', '.join(COMMANDS)}; see facedistill --help")
        return REFUSED
    status: int = import_module(COMMANDS[command]).main(words)
    return status


if __name__ == "__main__":
    sys.exit(main())
