# `make demo` and `make test` do everything on a fresh machine; the rest are their parts.
.PHONY: setup demo test bench e2e lint fmt
