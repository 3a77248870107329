"""What the machine and its user say of Weights & Biases: the mode, the folder, whether there is a key."""

import netrc
import os
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import urlsplit

import wandb

from facedistill.system.decoration import reason_of
from facedistill.system.terminal import say

CLOUD = "api.wandb.ai"  # under which `wandb login` of older versions kept the key of W&B's own server
MODES = {"auto": "online", "run": "online", "dryrun": "offline"}


def mode_of(asked: str) -> tuple[Any, str]:
    """The mode for ``wandb.init`` of ``logger.mode``, and why it is offline where nobody asked for that."""
    if asked == "auto":
        asked = os.environ.get("WANDB_MODE") or "auto"
    mode = MODES.get(asked, asked)
    if mode in ("offline", "disabled") or has_key():
        return mode, ""
    return "offline", "there is no key; `wandb login` stores one"


def folder_of(directory: Path) -> Path:
    """The folder for W&B's own: WANDB_DIR if that can be written, else the directory of the run."""
    if chosen := os.environ.get("WANDB_DIR"):
        try:
            Path(chosen).mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=chosen) as file:
                file.write(bytes(2**20))  # there is room
            return Path(chosen)
        except OSError as error:
            say(f"facedistill: WANDB_DIR={chosen}: {reason_of(error)}; Weights & Biases writes to {directory}")
    return directory


def has_key() -> bool:
    """Whether a W&B key is configured, in the environment or by ``wandb login``."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    server = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
    hosts = {urlsplit(server).netloc} | ({CLOUD} if server == wandb.Settings().base_url else set())
    try:
        known = netrc.netrc(Path(os.environ.get("NETRC", "~/.netrc")).expanduser())
    except (OSError, netrc.NetrcParseError):
        return False
    return any(known.authenticators(host) for host in hosts)
