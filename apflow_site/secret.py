"""The private data folder, and the secrets that are generated in it if the operator sets none."""

import errno
import fcntl
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from apflow_site.config import ConfigError, variables

DATA_DIR = "server.data_dir"


def private_folder(path: Path, *, setting: str = DATA_DIR) -> Path:
    """Create the folder of a setting with mode 0700 if it does not exist.

    Raises ConfigError if it is not writable.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _cannot_write(path, error, setting) from error
    return path


def persistent_secret(path: Path) -> str:
    """Read the secret from the file, or generate and store it. Raises ConfigError if that fails.

    Processes that start at the same time wait for the one that stores it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        if path.is_file():  # it may be read only
            return path.read_text(encoding="ascii")
        raise _cannot_write(path.parent, error) from error
    with os.fdopen(descriptor, "r+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        secret = file.read()
        if not secret:
            secret = secrets.token_urlsafe(48)
            file.write(secret)
            file.flush()
        return secret


def _cannot_write(folder: Path, error: OSError, setting: str = DATA_DIR) -> ConfigError:
    return ConfigError(
        f"{setting}: cannot write to {folder}: {error.strerror}. "
        f"Set {variables(setting)[0]} to a folder to which this user may write."
    )


def derived_secret(secret: str, *, purpose: str) -> str:
    """Derive a secret with HMAC-SHA256. It is the same on every machine that has `secret`."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()
