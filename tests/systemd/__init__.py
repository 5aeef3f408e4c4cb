"""A real systemd as process 1 of its own namespaces, for tests of what is read over D-Bus.

`root.py` makes its file system, once, in the cache; `machine.py` starts it and gives a handle; `conftest.py` has the
fixtures. Another test suite that needs one calls `start_systemd(systemd_root(SUITE))`.
"""
