"""A command of ours that is not waited for, and what it says meanwhile."""

import subprocess
import threading


class Watched:
    """Its standard error is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.said += line
                self._news.notify_all()

    def wait_for(self, words: str) -> None:
        with self._news:
            assert self._news.wait_for(lambda: words in self.said, timeout=150), self.said

    def end(self, seconds: float = 60) -> int:
        status = self.process.wait(seconds)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status
