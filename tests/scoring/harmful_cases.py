"""Candidates that do harm: run without end, leave something behind, look around.

Each is asked for `f(x)`. `TIMEOUTS` never answer, `LITTER` gives the right answer, x + 1, and leaves something
behind. `SPIES` answer the list of what they got hold of, which must be empty.
"""

from __future__ import annotations

#: These run until a limit stops them: of processor time, for the last two of wall time.
TIMEOUTS: dict[str, str] = {
    "fork bomb": """
import os
def f(x):
    while True:
        try: os.fork()
        except OSError: pass
""",
    "endless output": "def f(x):\n    while True: print('passed' * 10000)",
    "catches everything": """
def f(x):
    while True:
        try:
            while True: pass
        except BaseException: pass
""",
    "ignores signals": """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
""",
    "sleeps": "import time\ndef f(x): time.sleep(10**6)",
    "stops itself": "import os, signal\ndef f(x): os.kill(os.getpid(), signal.SIGSTOP)",
}

#: Right answers, and something that would outlive them.
LITTER: dict[str, str] = {
    "daemon": """
import os, signal, time
def f(x):
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            while True: time.sleep(1000)
        os._exit(0)
    os.wait()
    return x + 1
""",
    "daemon that nothing ends": """
import ctypes, os, time
def f(x):
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
        os.setsid()
        while True: time.sleep(1000)
    return x + 1
""",
    "threads": """
import threading, time
def f(x):
    threading.Thread(target=lambda: time.sleep(1000)).start()
    return x + 1
""",
    "all file descriptors": """
import os
kept = []
def f(x):
    try:
        while True: kept.append(os.dup(0))
    except OSError: pass
    return x + 1
""",
    "links and folders": """
import os
def f(x):
    if x == 1:
        litter()
    return x + 1
def litter():
    os.symlink("/etc/passwd", "passwd")
    os.symlink("..", "up")
    os.symlink("loop", "loop")
    os.makedirs("a/b/c")
    os.symlink("/tmp", "a/b/tmp")
    os.mkfifo("pipe")
    os.chmod("a", 0)
    for target in ("/etc", "/root", "/home"):
        try: os.symlink("/tmp", target)
        except OSError: pass
    os.chdir("/")
    try: os.rename("/tmp", "/other")
    except OSError: pass
""",
    "shared memory and queues": """
import ctypes
def f(x):
    libc = ctypes.CDLL(None)
    libc.shmget(4242, 4096, 0o1777)
    libc.msgget(4242, 0o1777)
    return x + 1
""",
    "handlers at its end": """
import atexit, sys
atexit.register(lambda: 1 / 0)
sys.excepthook = sys.unraisablehook = None
def f(x): return x + 1
""",
}

#: `f(about)` returns what it could reach; `about` has the host's paths, addresses and numbers.
SPIES: dict[str, str] = {
    "files": """
import os
def f(about):
    found = [path for path in about["paths"] if os.path.lexists(path)]
    for folder, folders, files in os.walk("/"):
        found += [name for name in files if name in about["names"]]
    for path in about["paths"]:
        try: found.append(open(path).read())
        except OSError: pass
    return found
""",
    "environment": """
import ctypes, os
def f(about):
    found = list(os.environ.items())
    ctypes.CDLL(None).getenv.restype = ctypes.c_char_p
    value = ctypes.CDLL(None).getenv(about["variable"].encode())
    if value: found.append(value)
    for path in ("/proc/self/environ", "/proc/1/environ"):
        try: found.append(open(path, "rb").read())
        except OSError: pass
    return found
""",
    "network": """
import socket
def f(about):
    found = [name for _, name in socket.if_nameindex() if name != "lo"]
    places = [("127.0.0.1", about["port"]), ("192.0.2.1", 80), ("1.1.1.1", 53), ("::1", about["port"])]
    for place in places:
        try: found.append(socket.create_connection(place, 1) and place)
        except OSError: pass
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            with socket.socket(socket.AF_UNIX, kind) as unix:
                unix.connect(about["abstract"])
                found.append("abstract")
        except OSError: pass
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", ("192.0.2.1", 53))
            found.append("datagram")
    except OSError: pass
    return found
""",
    "other processes": """
import ctypes, os
def f(about):
    found = []
    for number in (about["process"], about["worker"], *range(2, 3000)):
        try:
            if number != os.getpid() and os.kill(number, 0) is None: found.append(number)
        except OSError: pass
    libc = ctypes.CDLL(None, use_errno=True)
    for number in (1, about["process"], about["worker"]):
        if libc.ptrace(16, number, 0, 0) == 0: found.append(("traced", number))
    if os.path.isdir("/proc/1"): found.append("processes")
    return found
""",
    "rights": """
import ctypes, os, resource
def f(about):
    libc, found = ctypes.CDLL(None, use_errno=True), []
    attempts = {
        "setuid": lambda: os.setuid(0),
        "setgid": lambda: os.setgid(0),
        "groups": lambda: os.setgroups([0]),
        "chroot": lambda: os.chroot("/tmp"),
        "device": lambda: os.mknod("/tmp/device", 0o60666, os.makedev(8, 0)),
        "nice": lambda: os.nice(-5),
        "root": lambda: os.mkdir("/new"),
        "library": lambda: open(os.__file__, "a"),
        "host name": lambda: libc.sethostname(b"x", 1) and failed(),
        "mount": lambda: libc.mount(b"x", b"/tmp", b"tmpfs", 0, None) and failed(),
        "unmount": lambda: libc.umount2(b"/tmp", 2) and failed(),
        "new users": lambda: libc.unshare(0x10000000) and failed(),
        "new mounts": lambda: libc.unshare(0x00020000) and failed(),
        "time": lambda: resource.setrlimit(resource.RLIMIT_CPU, (-1, -1)),
        "memory": lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)),
        "processes": lambda: resource.setrlimit(resource.RLIMIT_NPROC, (-1, -1)),
    }
    def failed():
        raise OSError
    for what, attempt in attempts.items():
        try: attempt()
        except (OSError, ValueError): continue
        found.append(what)
    return found
""",
    "leftovers": """
import ctypes, os
def f(about):
    found = os.listdir("/tmp") + [name for name in os.listdir("/") if name in ("other", "new")]
    libc = ctypes.CDLL(None)
    if libc.shmget(4242, 4096, 0) != -1 or libc.msgget(4242, 0) != -1: found.append("shared")
    return found
""",
}
