"""A stand-in for the pystemd package, for what a real bus cannot be made to do on demand.

`install` writes a package with a `dbuslib` whose behaviour is a few lines of Python given by the test.
"""

from pathlib import Path

_DBUSEXC = """
class DBusBaseError(Exception):
    def __init__(self, errno):
        super().__init__(errno)
        self.errno = errno
"""
_DBUSLIB = """
import os, sys
from pystemd.dbusexc import DBusBaseError

def apply_signature(signature, arguments):
    return arguments

def path_encode(prefix, name):
    return prefix + b"/" + name

class Answer:
    def __init__(self, body):
        self.body = body

class DBusAddress:
    def __init__(self, address, peer):
        pass
    def open(self):
        pass
    def call_method(self, destination, path, interface, method, arguments):
        name = path.rpartition(b"/")[2]
        if method == b"Ping":
            return Answer(None)
        if method == b"Introspect":
            return Answer(b'<property name="LoadState" type="s"/><property name="MainPID" type="u"/>')
        return Answer(answer(method, name, arguments))

"""


def install(directory: Path, behaviour: str) -> None:
    """Write the package; `behaviour` defines `answer(method, name, arguments)`, or breaks on import."""
    package = directory / "pystemd"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('the package itself is never run')\n")
    (package / "dbusexc.py").write_text(_DBUSEXC)
    (package / "dbuslib.py").write_text(_DBUSLIB + behaviour)
