"""Programs that are killed, each in a fork of a process that has done their imports.

The imports take longer than what the programs do. Nothing has been computed before the fork, and so
no thread of a backend is lost by it.
"""

import json
import os
import signal
import subprocess
import sys

READY = "ready"


def serve(function):
    """Call `function` with the arguments of each line of the input, in a fork, until it ends."""
    print(READY, flush=True)  # noqa: T201
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            function(**json.loads(line))
            return
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


class Forks:
    """The process that runs `script`, which ends with `serve(function)`."""

    def __init__(self, script, folder, **environment):
        self._errors = (folder / "errors.txt").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._expect(READY)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.communicate()
        self._errors.close()

    def finishes(self, **arguments):
        """Call the function in a fork; return whether it was not killed."""
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        return self._expect("0", str(-signal.SIGKILL)) == "0"

    def _expect(self, *answers):
        answer = self._process.stdout.readline().strip()
        self._errors.seek(0)
        assert answer in answers, self._errors.read()
        return answer
