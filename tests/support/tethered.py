"""Become a program that dies with its parent: `tethered.py SIGNAL PARENT USER PROGRAM ARGUMENT...`.

A killed pytest runs no clean-up, so the kernel does it: PR_SET_PDEATHSIG sends SIGNAL when the parent is
gone. This is a script of its own, and not a `preexec_fn`, because running Python between fork and exec is
unsafe once the parent has threads (from Python 3.12 on it warns, which fails a test). Privileges are dropped
here, and first: a change of user clears the death signal, so `mariadbd --user=...` would lose it; and
perhaps only root can read this interpreter.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def main(signal_number: str, parent: str, user: str, *command: str) -> None:
    if user:
        entry = pwd.getpwnam(user)
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    if sys.platform == "linux":
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != int(parent):  # it died before we asked to be told
            sys.exit("the parent is gone")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
