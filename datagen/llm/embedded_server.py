"""The process that serves the embedded model; started by `embedded_server`, never imported.

    python -P embedded_server.py '{"weights": ..., "alias": ..., "parent": ..., ...}'

It prints `listening http://127.0.0.1:PORT` once the model is loaded, and ends itself within a
moment of its parent's end, however that ended.
"""

from __future__ import annotations

import json
import os
import sys
import time

_WATCH_S = 0.2


def main() -> None:
    """Serve until killed, or until the parent is another process than the one that started it."""
    given = json.loads(sys.argv[1])
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = given["weights"]
    params.model_alias = given["alias"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = given["slots"]
    params.n_ctx = given["context_tokens"] * given["slots"]
    params.use_jinja = True
    params.ui = False
    params.verbosity = 2
    params.cpuparams.n_threads = given["threads"]
    params.cpuparams_batch.n_threads = given["threads"]
    server = xllamacpp.Server(params)
    sys.stdout.write(f"listening {server.listening_address}\n")
    sys.stdout.flush()
    while os.getppid() == given["parent"]:
        time.sleep(_WATCH_S)
    os._exit(0)


if __name__ == "__main__":
    main()
