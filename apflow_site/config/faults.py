"""The faults of a configuration in words: key, place, reason and allowed values. They never show a secret."""

import difflib
import os
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from apflow_site.config.known import (
    FILE_VARIABLE,
    OTHER_VARIABLES,
    PREFIX,
    Setting,
    known_sections,
    known_settings,
    variables,
)
from apflow_site.config.operation import Auth
from apflow_site.config.sections import Config
from apflow_site.config.sources import Source
from apflow_site.databases import is_postgresql, sqlite_settings
from llmkeys.providers import PROVIDERS, normal_name
from tasks.rules.extras import how_to_install, is_installed

_REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "is a shell, which runs any program": """
            ash bash csh dash elvish es fish hush ion ksh ksh93 lksh loksh mksh nu oil oksh osh pdksh posh powershell pwsh
            rbash rc rksh rzsh sash scsh sh tcsh toysh xonsh yash ysh zsh busybox toybox coreutils
        """,
        "is an interpreter or a loader, which runs any code": """
            awk bun cjs clisp clojure csi dc deno dotnet ecl elixir erl escript expect gawk gdb gdbserver ghc ghci gjs
            gnuplot go groovy guile iex igawk ipython irb java jdb jjs jruby jrunscript js jshell julia kotlin ld lldb lua
            luajit m4 mawk maxima micropython mit-scheme mono nawk node nodejs ocaml octave original-awk osascript pdb perl
            perldoc php pike prove pry pydoc pypy python qjs qjsc r racket rhino rscript ruby runghc runhaskell sbcl scala scheme sed gsed slsh
            sqlite sqlite3 swift swipl tasksh tclsh wish
        """,
        "is an editor or a pager, which runs any program": """
            bat batcat busctl bzless bzmore dmesg ed elinks emacs emacsclient ex helix hostnamectl hx info jed joe kak less links localectl
            lynx lzless lzmore man mcedit mg micro more most nano ncdu ne networkctl nvi nvim pg pico red rview rvim sdiff
            select-editor sensible-browser sensible-editor sensible-pager sensible-terminal timedatectl top vi view vigr vile
            vim vimdiff vimtutor vipw visudo w3m xmore xzless xzmore zless zmore zstdless
        """,
        "starts the program that its arguments name": """
            abduco at batch byobu cabal capsh chpst chroot chrt choom coresched cpulimit cron crontab daemon dbus-launch dbus-run-session
            dmsetup doas dtach dumb-init enosys entr env eatmydata fakeroot faketime fd fdfind find firejail flock bwrap gosu gtester
            i386 incrontab inotifywait ionice ip journalctl ld-linux ldd linux32 linux64 login logrotate logsave loginctl ltrace
            machinectl mosh mount msgexec newgrp msgfilter multitime nice nohup nsenter numactl nq parallel perf pidstat pkexec prlimit
            proxychains proxychains4 rlwrap run-mailcap run-parts runcon runuser screen script scriptlive see service setarch setlock
            setpriv setsid setuidgid sg softlimit sotruss ssh-add ssh-agent ssh-copy-id start-stop-daemon stdbuf strace su su-exec sudo sudoedit systemctl
            systemd-inhibit systemd-run systemd-socket-activate taskset time timeout timelimit tini tmate tmux torify torsocks tsocks uclampset unbuffer unshare
            update-alternatives valgrind vboxmanage watch watchexec x86_64 xargs xdg-email xdg-open xvfb-run
        """,
        "runs the programs that its arguments or its configuration name": """
            7z ansible ansible-playbook apt apt-get aptitude aria2c bconsole bfs borg bpftrace bsdtar bzr certbot chef cmake
            composer convert cowsay cowthink cpio cvs darcs dbus-send dpkg dvips exiftool ffmpeg fossil ftp ghostscript gimp git
            gpg gs gtar hg inkscape lftp libreoffice logstash lpr magick mail mailx mogrify msfconsole mutt mysql mysqldump
            nmap openssl openvpn pandoc pax pf psftp psql puppet qemu-img qemu-system-x86_64 rcp restic rclone rpm rpmbuild
            rpmdb rpmquery rpmverify rsh rsync rtorrent rtv scp sftp sendmail shuf slogin soffice sort split ssh ssh-keygen
            sshpass star svn tar task tcpdump telnet tic tig tshark unison unzip vagrant vlc mpv wg-quick wget wireshark xelatex
            xetex xdotool zip zypper dnf yum pacman apk snap flatpak brew latex latexmk lualatex luatex pdflatex pdftex tex
            etex groff nroff troff
        """,
        "builds and runs code": """
            ant bazel bundle bundler c89 c99 cargo cc clang conda cpan cpanm cpp ctest easy_install g++ gcc gem gmake gradle c++
            hatch just make meson mvn ninja npm npx pdm pip pipx pnpm poetry rake rustc scons tcc tox uv uvx yarn corepack bunx
        """,
        "reaches a shell on this machine or another one": """
            aws az crictl ctr curl docker gcloud helm kubectl lxc lxd-client nc ncat netcat nerdctl podman runc socat virsh
        """,
        "writes any file that the server's user may write": """
            cp dd install ln mv patch rename rsync-ssl shred tee truncate
        """,
    }
)
NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {name: reason for reason, names in _REASONS.items() for name in names.split()}
)
"""Name of a program → what it does."""
BOXES: Final = frozenset({"busybox", "toybox", "coreutils"})
"""Programs that are what the name of a link to them says."""
VARIANT: Final = re.compile(
    r"(?P<name>.*?)([-_.]?\d[\w.+-]*|[-.](basic|tiny|nox|gtk3?|athena|huge|static|openbsd|traditional|dbg|bin|exe|so.*))"
)
"""A name with a version or a variant: `python3.13`, `vim.tiny`, `nc.openbsd`."""
CROSS: Final = re.compile(r"\w+-[\w-]+-(?P<name>gcc|g\+\+|cc|c\+\+|clang|ld|cpp|python)([-\d.].*)?")

LOADER: Final = re.compile(r"(?P<name>ld)[-.](linux|musl|so).*")


def reason_against(path: str) -> str | None:
    """Say why tasks must not run the program, which may be a link; None if nothing is known against it."""
    names = [Path(each).name for each in _chain(path)]
    if len(names) > 1 and names[-1] in BOXES:
        names = names[:1]
    return next(filter(None, map(_reason, names)), None)


def _chain(path: str) -> Iterator[str]:
    """Yield the path, what each link on the way leads to, and the file at the end."""
    yield path
    for _ in range(40):  # as the kernel
        if not os.path.islink(path):  # noqa: PTH114
            break
        path = os.path.join(os.path.dirname(path), os.readlink(path))  # noqa: PTH115, PTH118, PTH120
        yield path
    yield os.path.realpath(path)


def _reason(name: str) -> str | None:
    """Say what a program of this name does."""
    name = name.lower()
    bare = next((found["name"] for form in (LOADER, CROSS, VARIANT) if (found := form.fullmatch(name))), name)
    known = next((each for each in (name, bare) if each in NAMES), None)
    return f"{name} {NAMES[known]}" if known else None


MOST_SECTIONS: Final = 3
"""The number of sections with the key that a fault names."""
RANDOM_TEXT_COMMAND: Final = 'python -c "import secrets; print(secrets.token_urlsafe(48))"'


class ConfigError(Exception):
    """The configuration is not valid. The text lists every fault."""

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        super().__init__("The configuration is not valid:\n" + "\n".join(f"- {fault}" for fault in faults))


def faults_of(source: Source) -> list[str]:
    """One fault for each unknown key and each bad value of the source, even if another source overrides it."""
    try:
        Config(source)
    except ValidationError as error:
        faults: dict[str, str] = {}
        for details in error.errors(include_url=False):
            if details["type"] != "missing":
                key = _key_at(details["loc"])
                faults.setdefault(key, _fault(key, details, source))
        return list(faults.values())
    return []


def unknown_variables(names: Iterable[str]) -> Iterator[str]:
    known = [variable for key in known_settings() for variable in variables(key)]
    for name in sorted(names):
        if name.startswith(PREFIX) and name not in OTHER_VARIABLES and name not in known:
            yield f"{name}: unknown environment variable.{_close_variable(name, known)} All settings are in docs/reference/settings.md."


def contradictions(config: Config, *, place: Callable[[str], str], file: str | None) -> Iterator[str]:
    """Faults of values that contradict each other. `place` returns the source of a key's value; `file` is one of them."""
    yield from _auth_contradictions(config.auth, place)
    yield from _any_origin(config, place)
    yield from _shared_secrets(config, place)
    yield from _missing_extras(config, place)
    yield from _unknown_providers(config, place)
    yield from _ray_contradictions(config, place)
    yield from _store_contradictions(config, place)
    yield from _dangerous_programs(config, place)
    yield from _readable_secrets(config, place, file)
    if config.llm.key_store == "redis" and config.redis.url is None:
        yield (
            f"llm.key_store ({place('llm.key_store')}): 'redis' needs a Redis server. Give redis.url or "
            f"{variables('redis.url')[0]}."
        )


def _auth_contradictions(auth: Auth, place: Callable[[str], str]) -> Iterator[str]:
    if auth.is_on and auth.jwt_secret is None:
        yield (
            f"auth.enabled ({place('auth.enabled')}): authentication needs a secret. Make one with "
            f"`{RANDOM_TEXT_COMMAND}` and give it as {variables('auth.jwt_secret')[0]} or auth.jwt_secret."
        )
    if auth.accepted_jwt_secrets and auth.jwt_secret is None:
        yield (
            f"auth.accepted_jwt_secrets ({place('auth.accepted_jwt_secrets')}): no secret signs tokens. Give "
            f"{variables('auth.jwt_secret')[0]} or auth.jwt_secret, too."
        )
    if auth.required and not auth.is_on:
        yield (
            f"auth.required ({place('auth.required')}): authentication is required but off. Give auth.jwt_secret, "
            f"made with `{RANDOM_TEXT_COMMAND}`, and do not set auth.enabled to false; or set auth.required to false."
        )


def _any_origin(config: Config, place: Callable[[str], str]) -> Iterator[str]:
    if config.auth.is_on and "*" in (config.server.allowed_origins or ()):
        yield (
            f"server.allowed_origins ({place('server.allowed_origins')}): '*' lets every web page call the server, which is "
            "only possible without authentication. List the origins, such as https://app.example.com."
        )


def _shared_secrets(config: Config, place: Callable[[str], str]) -> Iterator[str]:
    """One secret for two purposes: a leak of one would be a leak of both."""
    auth = config.auth
    for key, secrets in (("auth.jwt_secret", (auth.jwt_secret,)), ("auth.accepted_jwt_secrets", auth.jwt_secrets[1:])):
        if set(secrets) & set(config.llm.encryption_keys):
            yield (
                f"{key} ({place(key)}): it is also in llm.encryption_keys, so a program that signs tokens could "
                f"decrypt all keys, and one that decrypts keys could sign tokens. Make another one with `{RANDOM_TEXT_COMMAND}`."
            )
    if auth.trigger_secret in (*auth.jwt_secrets, *config.llm.encryption_keys):
        yield (
            f"auth.trigger_secret ({place('auth.trigger_secret')}): it also signs tokens or is in llm.encryption_keys, and "
            f"other schedulers must not know those. Make another one with `{RANDOM_TEXT_COMMAND}`."
        )


def _unknown_providers(config: Config, place: Callable[[str], str]) -> Iterator[str]:
    """Yield the limits whose provider does not exist under this name: they would limit nothing."""
    named = {name: limit.get("match", {}).get("provider") for name, limit in (config.limits.shared or {}).items()}
    known = PROVIDERS.union(("demo", *map(normal_name, config.llm.api_base or ())))
    for name, provider in named.items():
        if provider is None or provider in known:
            continue
        normal = normal_name(provider)
        close = [normal] if normal in known else difflib.get_close_matches(normal, known, n=1)
        hint = f"Did you mean '{close[0]}'?" if close else "Give the name that models begin with, such as openai."
        yield f"limits.shared ({place('limits.shared')}): the provider '{provider}' of '{name}' is unknown. {hint}"


def _missing_extras(config: Config, place: Callable[[str], str]) -> Iterator[str]:
    """Yield a setting for what is not installed: every task that needs it would fail."""
    needed = {
        "a2a.grpc_port": (config.a2a.grpc_port, "grpc"),
        "executors.crewai.tools": (config.executors.crewai.tools, "crewai"),
        "executors.crewai.crews": (config.executors.crewai.crews, "crewai"),
        "executors.langgraph.graphs": (config.executors.langgraph.graphs, "langgraph"),
        "executors.llm.tools": (config.executors.llm.tools, "llm"),
        "executors.ssh.hosts": (config.executors.ssh.hosts, "ssh"),
        "files.store": (config.files.store, "s3"),
        "pools.ray.address": (config.pools.ray.address, "ray"),
    }
    for key, (value, extra) in needed.items():
        if value and not is_installed(extra):
            yield f"{key} ({place(key)}): the extra '{extra}' is not installed. Install it: {how_to_install(extra)}"


def _ray_contradictions(config: Config, place: Callable[[str], str]) -> Iterator[str]:
    pools = config.pools
    if pools.ray.address is None and "ray" in (pools.executors or {}).values():
        yield f"pools.executors ({place('pools.executors')}): the pool ray needs a cluster. Give pools.ray.address."


def _store_contradictions(config: Config, place: Callable[[str], str]) -> Iterator[str]:
    files = config.files
    if (files.s3_access_key_id is None) != (files.s3_secret_access_key is None):
        key = "files.s3_access_key_id" if files.s3_access_key_id else "files.s3_secret_access_key"
        yield f"{key} ({place(key)}): a key has an id and a secret. Give the other one, too."


def _dangerous_programs(config: Config, place: Callable[[str], str]) -> Iterator[str]:
    """Programs that allow more than they seem to."""
    command = config.executors.command
    for program in command.allow:
        if program not in command.allow_anyway and (reason := reason_against(program)):
            yield (
                f"executors.command.allow ({place('executors.command.allow')}): {program} is not allowed: {reason}. Every user "
                "who creates tasks chooses its arguments. Allow a script of your own that checks them; or list it in "
                "executors.command.allow_anyway, too, if all these users may run anything."
            )
    for program in command.allow_anyway:
        if program not in command.allow:
            yield (
                f"executors.command.allow_anyway ({place('executors.command.allow_anyway')}): {program} is not in "
                "executors.command.allow. Add it there, or remove it here."
            )


def _readable_secrets(config: Config, place: Callable[[str], str], file: str | None) -> Iterator[str]:
    """Secrets of the server that are in places which commands may read."""
    command, url = config.executors.command, config.database.url
    secret = {
        "server.data_dir": config.server.data_dir,
        "database.url": None if is_postgresql(url) else sqlite_settings(url)["NAME"],
        FILE_VARIABLE: file,
    }
    readable = [("executors.command.folders", each) for each in command.folders]
    readable += [("executors.command.readable", each) for each in command.readable]
    readable.append(("executors.command.allow", "/usr"))
    for key, folder in readable if command.allow else ():
        for name, path in secret.items():
            if path is not None and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
                yield (
                    f"{key} ({place(key)}): commands may read {folder}, which contains secrets of the server: {name} is "
                    f"{path}. Put that elsewhere, or let commands read another folder."
                )


def _key_at(location: tuple[int | str, ...]) -> str:
    """Return the setting at a location of pydantic's, which may be inside its value; else the location as a dotted key."""
    # A name with a dot is quoted: the key `server.port` in a file is not `port` under `server`.
    names = [repr(name) if "." in str(name) else str(name) for name in location]
    keys = [".".join(names[:length]) for length in range(1, len(names) + 1)]
    return next((key for key in keys if key in known_settings()), keys[-1])


def _fault(key: str, details: ErrorDetails, source: Source) -> str:
    where = f"{key} ({source.place(key)})"
    if key in known_settings():
        # Only our own checks give a reason: pydantic's messages repeat what `allowed` says.
        reason = str(details.get("ctx", {}).get("error", ""))
        inside = [name for name in details["loc"][key.count(".") + 1 :] if isinstance(name, str)]
        if inside and not reason and not known_settings()[key].is_secret:
            reason = f"see {inside[0]!r}"
        return f"{where}: {_refused(known_settings()[key], source.raw(key), reason)}"
    if key in known_sections():
        return f"{where}: {_shortened(details['input'])} is not allowed. Give a mapping of keys to values."
    return f"{where}: unknown key.{_close_key(key)}"


def _refused(setting: Setting, raw: Any, reason: str) -> str:
    value = "the value (a secret, so not shown)" if setting.is_secret else _shortened(raw)
    return f"{value} is not allowed{f': {reason}' if reason else ''}. Give {setting.allowed}."


def _shortened(raw: Any) -> str:
    if raw is None or raw == "":
        return "an empty value"
    return repr(raw[:200]) if isinstance(raw, str) else reprlib.repr(raw)


def _close_variable(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(
        name.removeprefix(PREFIX), sorted(each.removeprefix(PREFIX) for each in known), n=1
    )
    return f" Did you mean {PREFIX}{close[0]}?" if close else ""


def _close_key(key: str) -> str:
    """Return the keys of this name in other sections, or the one with the closest spelling."""
    known = list(known_settings())
    name = key.rpartition(".")[2]
    moved = [section for section, _, its in (each.rpartition(".") for each in known) if section and its == name]
    if 0 < len(moved) <= MOST_SECTIONS:
        return f" Did you mean '{name}' under {' or '.join(map(repr, moved))}?"
    close = difflib.get_close_matches(key, [*sorted(known_sections()), *known], n=1)
    if not close:
        return f" Known sections: {', '.join(sorted(known_sections()))}."
    section, _, name = close[0].rpartition(".")
    return f" Did you mean '{name}' under '{section}'?" if section else f" Did you mean '{name}'?"
