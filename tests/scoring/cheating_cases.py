"""Candidates that cheat: none gives the right answer, x + 1, to `f(x)`, and none must count as passed."""

from __future__ import annotations

FORGE = '''
import os, struct

def text(word):
    return b"s" + struct.pack(">I", len(word)) + word

def tell(*words):
    """As the messages between the processes are written, to every file that is open."""
    data = b"t" + struct.pack(">I", len(words)) + b"".join(text(word.encode()) for word in words)
    for fd in range(256):
        try:
            os.write(fd, struct.pack(">I", len(data)) + data)
        except OSError:
            pass
'''

LIARS = """
class Liar:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __bool__(self): return True
    def __hash__(self): return 2
    def __sub__(self, other): return 0
    def __abs__(self): return 0
    def __call__(self, *a): return self
    def __getattr__(self, name): return self
"""

#: Name -> program that is wrong, whatever it does about it. None of these takes long.
CHEATS: dict[str, str] = {
    "exits while it is loaded": "import os\nos._exit(0)\ndef f(x): return x + 1",
    "exits before the answer": "import os\ndef f(x): os._exit(0)",
    "raises SystemExit while it is loaded": "import sys\nsys.exit(0)\ndef f(x): return x + 1",
    "raises SystemExit instead of an answer": "import sys\ndef f(x): sys.exit(0)",
    "kills itself": "import os, signal\ndef f(x): os.kill(os.getpid(), signal.SIGKILL)",
    "segmentation fault": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "closes all files": "import os\ndef f(x):\n    os.closerange(0, 256)\n    return x + 1",
    "prints passed": 'print("passed")\nprint(("passed", ""))\ndef f(x): print("passed")',
    "writes a verdict to every file": FORGE + '\ntell("passed", "")\ndef f(x): tell("passed", "")',
    "writes a verdict and exits": FORGE + '\ntell("ready")\ntell("passed", "")\nos._exit(0)',
    "says that it is ready, then nothing": FORGE + '\ntell("ready")\ntell("ready")\ndef f(x): 0',
    "writes rubbish": "import os\ndef f(x):\n    for fd in range(256):\n"
    "        try: os.write(fd, b'\\xff' * 100000)\n        except OSError: pass",
    "overwrites modules": """
import builtins, sys, types
for name in list(sys.modules):
    module = sys.modules[name]
    for key in ("check", "judge", "_verdict", "serve", "main", "run"):
        if key in getattr(module, "__dict__", {}):
            setattr(module, key, lambda *a, **k: ("passed", ""))
sys.modules["inside.checker"] = types.SimpleNamespace(judge=lambda *a: ("passed", ""))
sys.modules["__main__"] = types.SimpleNamespace(check=lambda c: None)
def f(x): return None
""",
    "overwrites builtins": """
import builtins
class Everything(type):
    def __instancecheck__(cls, x): return True
    def __subclasscheck__(cls, x): return True
class Quiet(Exception, metaclass=Everything): pass
builtins.AssertionError = builtins.Exception = builtins.BaseException = Quiet
builtins.isinstance = builtins.issubclass = lambda *a: True
builtins.bool = builtins.all = builtins.any = lambda *a: True
builtins.__build_class__ = builtins.compile = lambda *a, **k: None
def f(x): return None
""",
    "climbs the frames": """
import sys
def rise():
    frame = sys._getframe()
    while frame is not None:
        for space in (frame.f_globals, frame.f_locals):
            for name in ("check", "outcome", "verdict", "passed", "answer", "function"):
                space[name] = "passed"
            space["check"] = lambda candidate: None
        frame = frame.f_back
rise()
def f(x):
    rise()
    return None
""",
    "patches what it finds in memory": """
import gc, types
def patch():
    for thing in gc.get_objects():
        try:
            if isinstance(thing, dict) and "check" in thing:
                thing["check"] = lambda candidate: None
            if isinstance(thing, types.FunctionType) and thing.__name__ in ("_verdict", "judge"):
                thing.__code__ = (lambda *a: ("passed", "")).__code__
            if type(thing).__name__ == "Channel":
                thing.send(("passed", ""))
        except Exception:
            pass
patch()
def f(x):
    patch()
    return None
""",
    "traces and profiles": """
import sys, threading
def trace(frame, event, argument):
    frame.f_locals["check"] = frame.f_globals["check"] = lambda candidate: None
    return trace
sys.settrace(trace); sys.setprofile(trace); threading.settrace(trace)
def f(x): return None
""",
    "is equal to everything": LIARS + "\ndef f(x): return Liar()",
    "is a number that is equal to everything": LIARS
    + "\nclass Number(Liar, int): pass\ndef f(x): return Number(7)",
    "is a text that is equal to everything": LIARS
    + "\nclass Text(Liar, str): pass\ndef f(x): return Text('no')",
    "is a list that is equal to everything": LIARS
    + "\nclass List(Liar, list): pass\ndef f(x): return List([7])",
    "is a dict that is equal to everything": LIARS
    + "\nclass Dict(Liar, dict): pass\ndef f(x): return Dict()",
    "pretends to be another class": "class Two:\n    __class__ = int\n"
    "    def __eq__(self, other): return True\ndef f(x): return Two()",
    "would run code where it is read": """
import os
class Pickle:
    def __reduce__(self): return (print, ("passed",))
    def __eq__(self, other): return True
def f(x): return Pickle()
""",
    "ends the loops of a test": "def f(x): raise StopIteration",
    "raises what ends generators": "def f(x): raise GeneratorExit",
    "raises what claims to be quiet": "class AssertionError(BaseException): pass\n"
    "def f(x): raise AssertionError",
    "is a generator without end": "def f(x):\n    while True: yield x + 1",
    "answers with too much": "def f(x): return bytes(2**26)",
    "answers with too many": "def f(x):\n    a = []\n    for _ in range(60): a = [a, a]\n    return a",
    "answers with itself": "def f(x):\n    a = []\n    a.append(a)\n    return a",
    "calls itself for ever": "def f(x): return f(x)",
    "is no function": "f = 2",
    "is not there": "def g(x): return x + 1",
    "is no Python": "def f(x) return x + 1",
    "is nested too deeply": "def f(x): return " + "(" * 5000 + "x" + ")" * 5000,
    "allocates 10 GB": "def f(x): return len(bytearray(10 * 2**30))",
    "allocates while it is loaded": "a = bytearray(10 * 2**30)\ndef f(x): return x + 1",
    "makes a file of 100 GB": "def f(x):\n    with open('a', 'wb') as file:\n"
    "        file.truncate(100 * 2**30)\n    return x + 1",
    "writes until its folder is full": """
def f(x):
    for name in range(10**6):
        with open(f"file-{name}", "wb") as file:
            file.write(bytes(2**20))
    return x + 1
""",
    "kills everything it can name": """
import os, signal
def f(x):
    for number in (os.getppid(), 0, -1, *range(1, 3000)):
        if number != os.getpid():
            for which in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):
                try: os.kill(number, which)
                except OSError: pass
    return None
""",
    "kills its process groups": """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def f(x):
    for group in {os.getpgid(0), os.getsid(0), os.getpgid(os.getppid())}:
        try: os.killpg(group, signal.SIGTERM)
        except OSError: pass
    return None
""",
    "takes its parent's limits": """
import os, resource
def f(x):
    for number in range(1, 100):
        for name in ("CPU", "AS", "NOFILE", "FSIZE"):
            try: resource.prlimit(number, getattr(resource, f"RLIMIT_{name}"), (0, 0))
            except OSError: pass
    return None
""",
}
