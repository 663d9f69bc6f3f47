"""Packages of machine code -> which of them may run: those that this user's export wrote, for this machine's PyTorch.

A folder beside a bundle may come from anywhere, and what stands in it can be made to fit itself; so `export` signs what
it compiled with a key that never leaves the user's own folder.
"""

import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import torch

from segsmith.files import digest, write_error


def signature(file: Path, machine: str) -> str:
    """What says that this user's export wrote a package for such a machine and this PyTorch. Raises WriteError where no
    key can be kept."""
    try:
        return _signature(_key() or _new_key(), file, machine)
    except OSError as error:
        raise write_error(error, _key_file()) from error


def refusal(files: Mapping[Path, str], machine: str) -> str | None:
    """Why packages, each with the signature that is told of it, may not run here; None where they may."""
    key = _key()
    for file, told in files.items():
        try:
            known = key is not None and file.is_file() and hmac.compare_digest(_signature(key, file, machine), told)
        except (OSError, TypeError):  # it is not there, or what is told is no signature
            known = False
        if not known:
            return f"{file.name} is machine code that you did not export here, on this machine and with this PyTorch"
    return None


def _signature(key: bytes, file: Path, machine: str) -> str:
    return hmac.new(key, f"{torch.__version__}\n{machine}\n{digest(file)}".encode(), "sha256").hexdigest()


def _key_file() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "segsmith" / "export.key"


def _key() -> bytes | None:
    """The user's key; None before the first export."""
    try:
        return _key_file().read_bytes() or None
    except OSError:
        return None


def _new_key() -> bytes:
    file, key = _key_file(), secrets.token_bytes(32)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as written:
        written.write(key)
    return key
