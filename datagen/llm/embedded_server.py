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
    options = {
        "model_alias": given["alias"],
        "hostnames": ["127.0.0.1"],
        "port": 0,
        "n_parallel": given["slots"],
        "n_ctx": given["context_tokens"] * given["slots"],
        "use_jinja": True,
        "ui": False,
        "verbosity": 2,
    }
    if given["embeddings"]:
        # A text is embedded in one batch, or refused; its vector is the mean of its tokens'.
        batch = given["context_tokens"]
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        options |= {"embedding": True, "n_batch": batch, "n_ubatch": batch}
    for name, value in options.items():
        setattr(params, name, value)
    for threads in (params.cpuparams, params.cpuparams_batch):
        setattr(threads, "n_threads", given["threads"])  # noqa: B010 - a name of llama.cpp's
    server = xllamacpp.Server(params)
    sys.stdout.write(f"listening {server.listening_address}\n")
    sys.stdout.flush()
    while os.getppid() == given["parent"]:
        time.sleep(_WATCH_S)
    os._exit(0)


if __name__ == "__main__":
    main()
