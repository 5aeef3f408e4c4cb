"""`--template`: a snapshot rendered with a Jinja template, in Jinja's sandbox."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from common.errors import Code, InputError
from common.model import Snapshot

_LIMIT: Final = 1 << 20
_OUTPUT_LIMIT: Final = 64 << 20
_SECONDS: Final = 10.0
"""How long rendering may take: two nested loops can take for ever, and yield nothing in between."""


def load_template(path: Path) -> Callable[[Snapshot], bytes]:
    """Compile the template now, so that a mistake in it is found before anything is collected.

    The template sees `snapshot` (the document), `metadata`, and `facts`: type, then subtype, then key. What is not
    there is an error, so that a misspelt key cannot pass for an empty value. It can read no file and import nothing.
    """
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    try:
        template = environment.from_string(_read(path))
    except TemplateError as error:
        raise _broken(path, error) from error

    def render(document: Snapshot) -> bytes:
        chunks: list[bytes] = []
        size = 0
        signal.signal(signal.SIGALRM, _too_slow)
        signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        try:
            for chunk in template.generate(_view(document)):
                chunks.append(chunk.encode("utf-8", "replace"))
                size += len(chunks[-1])
                if size > _OUTPUT_LIMIT:
                    raise InputError(Code.INPUT_TOO_LARGE, f"the template {path} renders to more than 64 MiB")
        except (TemplateError, ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
            raise _broken(path, error) from error
        except (RecursionError, TimeoutError) as error:
            raise _broken(path, error) from error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return b"".join(chunks)

    return render


def _too_slow(number: int, frame: object) -> None:
    raise TimeoutError(f"it is not done after {_SECONDS:g} s")


def _view(document: Snapshot) -> dict[str, Any]:
    import msgspec

    plain = msgspec.to_builtins(document)
    facts = {
        measurement["type"]: {subtype["subtype"]: subtype["data"] for subtype in measurement["subtypes"]}
        for measurement in plain["measurements"]
    }
    return {"snapshot": plain, "metadata": plain["metadata"], "facts": facts}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LIMIT + 1)
        if len(content) > _LIMIT:
            raise InputError(Code.INPUT_TOO_LARGE, f"the template {path} is longer than 1 MiB")
        return content.decode()
    except OSError as error:
        raise InputError(
            Code.INPUT_UNREADABLE, f"the template {path} cannot be read: {error.strerror or error}"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(Code.INPUT_MALFORMED, f"the template {path} is not UTF-8 text") from error


def _broken(path: Path, error: Exception) -> InputError:
    line = getattr(error, "lineno", None)
    if line is None and (trace := error.__traceback__):
        while trace:  # Jinja gives rendered templates frames of their own, with the template's line numbers
            if trace.tb_frame.f_code.co_filename == "<template>":
                line = trace.tb_lineno
            trace = trace.tb_next
    where = f"{path}, line {line}" if line else str(path)
    return InputError(
        Code.INPUT_MALFORMED, f"the template {where} does not work: {str(error) or type(error).__name__}"
    )
