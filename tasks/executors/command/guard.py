"""The parent process of one command: sets its limits, and leaves no process of it alive.

A script, `python guard.py LINE CPU MEMORY FILE PROCESSES WRITABLE READABLE HOME …`, which
`tasks.executors.command.guarded_process` starts in a new session. WRITABLE and READABLE are numbers:
after HOME come as many paths that the command may write, as many that it may read, then PROGRAM and
its arguments. With -1 for WRITABLE it may write and read what its user may. LINE is a socket whose other end the worker owns. When that end closes, because the worker wants to stop the command or has died, the
guard kills all processes below it. It passes SIGTERM on to the command's process group. It reports
over the socket: `started GROUP` and, when no process is left, `exited CODE`, `refused ERRNO`,
`crowded 0` or `stopped 0`. If the worker can no longer receive the report, the guard deletes HOME,
which was created for this command. The script imports little, because each command waits for it.
"""

import ctypes
import os
import resource
import signal
import stat
import struct
import sys
import time
from contextlib import suppress
from typing import Final, NoReturn

IS_LINUX: Final = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
TICK_SECONDS: Final = 0.05
THREADS_EACH: Final = 16
UNCONFINED: Final = -1
"""Instead of WRITABLE: the program may read and write what its user may."""

LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE, IOCTL_DEV = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
MAKE_DEVICES: Final = 1 << 6 | 1 << 11
OF_FILES: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""The rights that a rule for a file may grant; the others are those of folders."""
ALL_RIGHTS: Final = (0, (1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1)
"""The rights to files that Landlock controls, by its version. Versions after the last one have the same."""
SCOPES: Final = 1 << 0 | 1 << 1
"""The scopes of version 6 and later: abstract sockets and signals do not reach processes that are not confined, too."""
SYSTEM: Final = tuple(
    """
    /usr /bin /sbin /lib /lib32 /lib64 /libx32 /nix/store /sys/devices/system/cpu
    /proc/self /proc/cpuinfo /proc/filesystems /proc/loadavg /proc/meminfo /proc/stat /proc/sys /proc/uptime /proc/version
    /etc/alternatives /etc/ca-certificates /etc/ca-certificates.conf /etc/debian_version /etc/fonts /etc/gai.conf
    /etc/group /etc/host.conf /etc/hosts /etc/inputrc /etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d /etc/ld.so.preload
    /etc/locale.alias /etc/localtime /etc/magic /etc/magic.mime /etc/mime.types /etc/netconfig /etc/networks
    /etc/nsswitch.conf /etc/os-release /etc/papersize /etc/passwd /etc/perl /etc/pki/ca-trust /etc/pki/tls/certs
    /etc/protocols /etc/resolv.conf /etc/rpc /etc/services /etc/ssl/cert.pem /etc/ssl/certs /etc/ssl/openssl.cnf
    /etc/terminfo /etc/timezone
    """.split()
)
"""Paths that each command may read and execute: programs and the description of this machine, and no secret."""
DEVICES: Final = ("/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero")


def main(numbers: list[int], home: str, rest: list[str]) -> None:
    line, cpu_seconds, memory_bytes, file_bytes, processes, writable, readable = numbers
    places = None
    if writable != UNCONFINED:
        places = [home, *rest[:writable]], rest[writable : writable + readable]
        rest = rest[writable + readable :]
    os.set_inheritable(line, False)
    os.set_blocking(line, False)
    # Only SIGKILL and the closed socket end this process, whatever signals the command or a
    # terminal sends.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)  # otherwise the command would ignore what the worker ignores
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    if IS_LINUX:
        # A higher priority than the command, however many processes it has. Only root may; see `_limit_processes`.
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    command = os.fork()
    if command == 0:
        _become(line, cpu_seconds, memory_bytes, file_bytes, processes, places, rest)
    with suppress(OSError):  # the child does the same; the order does not matter
        os.setpgid(command, command)
    _say(line, f"started {command}")
    report = _watch(command, line, processes)
    _kill_all(command)
    if not _say(line, report):
        os.execv("/bin/rm", ["rm", "-rf", "--", home])  # noqa: S606


def _become(
    line: int,
    cpu_seconds: int,
    memory_bytes: int,
    file_bytes: int,
    processes: int,
    places: tuple[list[str], list[str]] | None,
    argv: list[str],
) -> NoReturn:
    """Turn this child into the command: in its own process group, limited, confined, unable to gain
    privileges.
    """
    program, *arguments = argv
    try:
        os.setpgid(0, 0)
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_CPU, cpu_seconds, until_killed=1)
        _limit(resource.RLIMIT_FSIZE, file_bytes)
        if IS_LINUX:  # macOS knows the limit, but refuses to set it
            _limit(resource.RLIMIT_AS, memory_bytes)
        _limit_processes(processes)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _prctl(PR_SET_NO_NEW_PRIVS, 1)  # a process of another user could not be killed
        if places is not None and (version := landlock_version()):
            _confine(version, *places, program)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execv(program, arguments)  # noqa: S606  (that it uses no shell is the point)
    except OSError as error:
        _say(line, f"refused {error.errno}")
    finally:
        os._exit(127)


def _limit(kind: int, value: int, *, until_killed: int = 0) -> None:
    """Set a limit, never above the worker's own.

    The hard limit, for processor time, kills the program.
    """
    _, most = resource.getrlimit(kind)
    hard = value + until_killed if most == resource.RLIM_INFINITY else min(value + until_killed, most)
    resource.setrlimit(kind, (min(value, hard), hard))


def landlock_version() -> int:
    """Return the version of Landlock that the kernel offers this process; 0 without."""
    try:
        return _system_call(LANDLOCK_CREATE_RULESET, None, 0, 1) if IS_LINUX else 0
    except OSError:
        return 0


def _confine(version: int, writable: list[str], readable: list[str], program: str) -> None:
    """Leave this process, and all that it starts, only these places, the system, and standard input.

    A confined process cannot read the environment or the memory of processes that are not. It executes
    nothing that it can write.
    """
    handled = ALL_RIGHTS[min(version, len(ALL_RIGHTS) - 1)]
    attributes = struct.pack("QQQ", handled, 0, SCOPES) if version >= 6 else struct.pack("Q", handled)
    rules = _system_call(LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    _grant(rules, 0, READ_FILE)
    for paths, rights in (
        ((program, *SYSTEM, *readable), EXECUTE | READ_FILE | READ_DIR),
        (writable, handled & ~(EXECUTE | MAKE_DEVICES | IOCTL_DEV)),
        (DEVICES, handled & (READ_FILE | WRITE_FILE | IOCTL_DEV)),
    ):
        for path in paths:
            with suppress(FileNotFoundError, PermissionError):
                place = os.open(path, os.O_PATH | os.O_CLOEXEC)
                _grant(rules, place, rights)
                os.close(place)
    _system_call(LANDLOCK_RESTRICT_SELF, rules, 0)
    os.close(rules)


def _grant(rules: int, place: int, rights: int) -> None:
    is_folder = stat.S_ISDIR(os.fstat(place).st_mode)
    rule = struct.pack("=Qi", rights if is_folder else rights & OF_FILES, place)
    _system_call(LANDLOCK_ADD_RULE, rules, 1, rule, 0)


def _system_call(number: int, *arguments: bytes | int | None) -> int:
    words = [each if isinstance(each, bytes) else ctypes.c_void_p(each) for each in arguments]
    result: int = ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number} failed")
    return result


def _limit_processes(processes: int) -> None:
    """Limit the number of processes, which may grow faster than `_watch` reacts.

    Root is exempt from this limit.

    RLIMIT_NPROC counts the threads of all processes of the user, also in other containers, and that
    number is unknown here. So the limit is the smallest tried value that allows one more process,
    plus what the command may use.
    """
    enough = processes
    while not _may_fork(enough) and enough < 2**20:
        enough *= 2
    _limit(resource.RLIMIT_NPROC, enough + processes * THREADS_EACH)


def _may_fork(limit: int) -> bool:
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    try:
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, hard))
        child = os.fork()
    except (BlockingIOError, ValueError):  # the soft or the hard limit is reached
        return False
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return True


def _watch(command: int, line: int, processes: int) -> str:
    """Return when the command or the socket has ended, or there are too many processes; report
    which.
    """
    signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS, TICK_SECONDS)
    while True:
        woken_by = signal.sigwait({signal.SIGALRM, signal.SIGCHLD, signal.SIGTERM})
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:  # also adopted orphans
            if ended[0] == command:
                return f"exited {os.waitstatus_to_exitcode(ended[1])}"
        if woken_by == signal.SIGTERM:
            with suppress(ProcessLookupError):  # all have left the group
                os.killpg(command, signal.SIGTERM)
        if _has_closed(line):
            return "stopped 0"
        if len(descendants(at_most=processes + 1)) > processes:
            return "crowded 0"


def _say(line: int, report: str) -> bool:
    """Send a report. False: the worker has died."""
    try:
        return os.write(line, f"{report}\n".encode()) > 0
    except OSError:
        return False


def _has_closed(line: int) -> bool:
    try:
        return not os.read(line, 1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _kill_all(command: int) -> None:
    """Kill the group at once, so that no fork escapes; then, on Linux, processes that had left it."""
    with suppress(ProcessLookupError, PermissionError):  # macOS forbids signals to a group of zombies
        os.killpg(command, signal.SIGKILL)
    with suppress(ChildProcessError):  # none are left
        while IS_LINUX:
            for pid in descendants():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            time.sleep(0.001)


def descendants(*, at_most: int = sys.maxsize) -> list[int]:
    """Return the processes below this one, including unreaped dead ones; empty without /proc."""
    found: list[int] = []
    left = [os.getpid()]
    while left and len(found) < at_most:  # a fork bomb grows faster than it can be counted
        below = children(left.pop())
        found += below
        left += below
    return found


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # the process has just ended
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  (pathlib is slow to import)
            with open(f"/proc/{pid}/task/{thread}/children") as file:  # noqa: PTH123
                found += map(int, file.read().split())
    return found


def _prctl(option: int, value: int) -> None:
    if IS_LINUX and ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:8]], sys.argv[8], sys.argv[9:])
