"""A process that validates one task's inputs and ends: for schemas that may take long.

It reads `[schema, inputs]` from standard input and writes the mismatch, or null, to standard
output. The kernel ends it at its limits, so neither time nor memory of it is the worker's. It is
started by `tasks.worker.input_check` and imports neither Django nor anything else that is slow.
"""

import resource
import sys
from typing import Final

import orjson

from tasks.rules.schema import mismatch

CPU_SECONDS: Final = 2
MEMORY_BYTES: Final = 2**30


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    schema, inputs = orjson.loads(sys.stdin.buffer.read())
    sys.stdout.buffer.write(orjson.dumps(mismatch(schema, inputs)))


if __name__ == "__main__":
    main()
