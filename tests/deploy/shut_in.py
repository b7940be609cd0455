"""Starts a program as a pod of the manifests does: its root is a folder of its own, read only; it is user 65532, has no capability
and can gain none. Only root may: shut_in.py FOLDER [PLACE=FILE]... -- PROGRAM [ARGUMENT]...

Each FILE of the machine is seen at PLACE, read only. The process stays the same, so that whoever starts it knows its id."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

USER = 65532

# linux/sched.h, linux/prctl.h
CLONE_NEWNS = 0x20000
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38

libc = ctypes.CDLL(None, use_errno=True)


def ask(call, *arguments):
    if call(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def own_root(folder, seen):
    """In a namespace of its own, where mounts are nobody else's."""
    ask(libc.unshare, CLONE_NEWNS)
    mount("--make-rprivate", "/")
    mount("--bind", folder, folder)
    for place, file in seen:
        there = Path(folder, place.lstrip("/"))
        there.parent.mkdir(parents=True, exist_ok=True)
        there.touch()
        mount("--bind", file, str(there))
        mount("-o", "remount,bind,ro", str(there))
    mount("-o", "remount,bind,ro", folder)
    os.chroot(folder)
    os.chdir("/")


def nobody_special(last):
    for capability in range(last + 1):
        ask(libc.prctl, PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    # With the last of root's ids its capabilities are gone.
    os.setresuid(USER, USER, USER)
    ask(libc.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def main(folder, *rest):
    cut = rest.index("--")
    seen = [each.split("=", 1) for each in rest[:cut]]
    command = rest[cut + 1 :]
    # Its own root has no /proc.
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    own_root(folder, seen)
    nobody_special(last)
    os.execv(command[0], command)


main(*sys.argv[1:])
