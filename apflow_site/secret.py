"""What only the server's user may read: the data folder, and the keys that it makes there when the operator gives none."""

import errno
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from apflow_site.config import ConfigError


def private_folder(path: Path) -> Path:
    """The folder, which is made for its owner alone when it is not there. Raises ConfigError when it cannot be written."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _cannot_write(path, error) from error
    return path


def persistent_secret(path: Path) -> str:
    """Read the secret, or make it. Raises ConfigError when the folder cannot be written."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise _cannot_write(path.parent, error) from error
    secret = secrets.token_urlsafe(48)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret)
    return secret


def _cannot_write(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"server.data_dir: cannot write to {folder}: {error.strerror}. "
        "Name a folder that this user may write to, in AIPARTNERUPFLOW_DATA_DIR."
    )


def derived_secret(secret: str, *, purpose: str) -> str:
    """Another secret, the same on every machine that has this one, and of no use to find this one."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()
