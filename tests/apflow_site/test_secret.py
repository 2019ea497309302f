"""The data folder, and the keys of the installation."""

import fcntl
import stat
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User

from apflow_site.config import ConfigError
from apflow_site.secret import derived_secret, persistent_secret, private_folder
from tests.servers import until

SECRET = "wZ0vJm3kq-8TfXc5Rb1nYhLs7DgPeAu4"


def test_a_new_folder_is_its_owners_alone_and_one_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    new, old = tmp_path / "of/the/server", tmp_path / "old"
    old.mkdir(mode=0o755)
    modes = [stat.S_IMODE(private_folder(folder).stat().st_mode) for folder in (new, old)]
    assert modes == [0o700, 0o755]


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    made = persistent_secret(tmp_path / "key")
    assert len(made) == 64
    assert persistent_secret(tmp_path / "key") == made
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_who_starts_while_the_key_is_written_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with ThreadPoolExecutor(1) as other, path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        read = other.submit(persistent_secret, path)
        until(is_in_persistent_secret, seconds=60, what="the other one at the lock")
        file.write(SECRET)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_UN)
        assert read.result() == SECRET


def is_in_persistent_secret() -> bool:
    """Whether a thread of this process is inside of it, where only the lock can hold it up."""
    stacks = map(traceback.extract_stack, sys._current_frames().values())
    return any(frame.name == "persistent_secret" and "flock" in str(frame.line) for stack in stacks for frame in stack)


@pytest.mark.parametrize("make", [private_folder, lambda folder: persistent_secret(folder / "key")])
def test_a_folder_that_cannot_be_written_stops_the_start(make: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"server\.data_dir: cannot write to"):
        make(tmp_path / "file")


def test_a_derived_key_is_the_same_everywhere_and_does_not_show_the_secret() -> None:
    key = derived_secret(SECRET, purpose="sessions")
    assert key == derived_secret(SECRET, purpose="sessions")
    assert key not in (derived_secret(SECRET, purpose="links"), derived_secret(SECRET[:-1], purpose="sessions"))
    assert SECRET not in key


def test_another_secret_ends_all_sessions(settings: LazySettings) -> None:
    """Django asks for this hash with each request of a session."""
    hashes = set()
    for secret in (SECRET, SECRET[::-1]):
        settings.SECRET_KEY = derived_secret(secret, purpose="sessions")
        hashes.add(User(username="ada", password="hashed").get_session_auth_hash())
    assert len(hashes) == 2
