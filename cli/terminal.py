"""Whether somebody sits at the other end."""


def is_terminal(stream: object) -> bool:
    """Of one of sys's streams, which is None where the program was started without it (`>&-`)."""
    return bool(getattr(stream, "isatty", lambda: False)())
