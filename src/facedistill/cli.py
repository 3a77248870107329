"""What the commands share: words of the form key=value, help, and errors as one line."""

import os
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches

from facedistill.errors import ConfigError, FacedistillError
from facedistill.system.cores import MOST_THREADS
from facedistill.system.terminal import REFUSED, leave_pipe, say
from facedistill.system.text import escape_unprintable

ALL_CORES = f"trainer.threads={min(os.cpu_count() or 1, MOST_THREADS)}"  # for what is done alone


def run_command(
    words: Sequence[str], manual: str | None, command: Callable[[list[str]], int], bare: bool = True
) -> int:
    """The exit status of a command; an error of ours is one line on stderr.

    Args:
        manual: what --help prints, and the command without a word where ``bare`` is false; None: it has its own.
    """

    def checked() -> int:
        if manual and ("--help" in words or "-h" in words or not (words or bare)):
            print(manual)
            return 0 if words else REFUSED
        try:
            return command(list(words))
        except BrokenPipeError:
            raise
        except FacedistillError as error:
            fault = str(error)
        except OSError as error:
            fault = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
        say(f"facedistill: {fault}")
        return REFUSED

    return ended(checked)


def ended(command: Callable[[], int]) -> int:
    """The exit status of a command that Ctrl-C, or a reader of its output who leaves, may end: without a traceback."""
    escape_unprintable()
    try:
        status = command()
        if sys.stdout is not None:  # it was closed from the start
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        return leave_pipe()
    except KeyboardInterrupt:
        print("\nfacedistill: stopped", file=sys.stderr)
        return 128 + signal.SIGINT


def split_words(words: Sequence[str], own: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """The values of a command's ``own`` keys, and the other words in their order.

    Raises:
        ConfigError: a word is nearly one of its own.
    """
    found = {key: value for key, _, value in (word.partition("=") for word in words) if key in own}
    others = [word for word in words if word.partition("=")[0] not in own]
    for word in others:
        key, _, value = word.lstrip("-").partition("=")
        for near in get_close_matches(key, own, 1, 0.7) if "." not in key else ():  # teacher.check is none of these
            raise ConfigError(f"{word}: there is no such word. Did you mean {near}={value or '…'}?")
    return found, others
