"""The demo model as a server of embeddings, under another name; it ends with its standard input."""

import os
import sys
import threading
from typing import Any

MODEL = "gemma3-embeddings"
NUMBERS = 640  # Of one embedding.


def serve(model_path: str, port: int) -> None:
    import xllamacpp  # noqa: PLC0415 - an extra.

    params: Any = xllamacpp.CommonParams()
    params.model.path = model_path
    params.model_alias = {MODEL} if isinstance(params.model_alias, set) else MODEL
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = 512
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(params)
    ended = threading.Thread(target=sys.stdin.buffer.read)
    ended.start()
    ended.join()
    del server
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
