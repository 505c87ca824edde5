"""Becomes the command in its arguments, to be killed when its parent ends: python tied.py PARENT COMMAND [ARGUMENT ...]

Linux alone can do the latter; elsewhere a server outlives tests that were killed.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            sys.exit("the parent has ended already")
    os.execvp(command[0], command)
