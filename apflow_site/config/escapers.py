"""Programs that run any other program, or write any file, for someone who only chooses their arguments, input or files.

Such a program in `executors.command.allow` allows everything. The list names well-known ones; no list can be complete.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

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
