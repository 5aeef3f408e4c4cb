"""Writes the archives of all constructed hosts: `python -m tests.hosts.construct`."""

from tests.hosts.construct.hosts import BUILDERS, path_of, text_of

for name in BUILDERS:
    path = path_of(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text_of(name), encoding="utf-8")
    print(f"{path}: {path.stat().st_size} bytes")
