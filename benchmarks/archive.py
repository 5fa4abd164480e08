"""What an event costs in the archive: bytes on disk, and the time to write and to read it back.

    python -m benchmarks.archive --jobs 20000

The log is made in memory, of completed jobs with chat requests and answers of random words, which compress
less well than real ones: an upper bound, in that respect.
"""

import argparse
import json
import random
import time

from projections.archive.segment import Place, Segment, Writer

_WORDS = 300  # In a request and its answer, each.
_VOCABULARY = 5_000
_PAGE = 200


def _text(chance: random.Random, vocabulary: list[str]) -> str:
    return " ".join(chance.choices(vocabulary, k=_WORDS))


def _log(jobs: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
    chance = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = [
        "".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(_VOCABULARY)
    ]
    entries: list[tuple[bytes, dict[bytes, bytes]]] = []
    for number in range(jobs):
        asked = {"messages": [{"role": "user", "content": _text(chance, vocabulary)}]}
        said = {
            "choices": [{"message": {"role": "assistant", "content": _text(chance, vocabulary)}}]
        }
        bodies = (
            ("submitted", {"queue": "default", "model": "m", "tenant": "t", "request": asked}),
            ("claimed", {"claim": 1, "attempt": 1, "worker": "gpu-1"}),
            ("completed", {"claim": 1, "attempt": 1, "result": said, "timings": {"ran_ms": 900}}),
        )
        job = f"{chance.getrandbits(90):019x}"[:19].encode()
        for version, (tag, body) in enumerate(bodies, 1):
            fields = {
                b"j": job,
                b"v": b"%d" % version,
                b"t": tag.encode(),
                b"d": json.dumps(body).encode(),
                b"o": b"%x" % chance.getrandbits(64),
                b"q": b"%d" % (len(entries) + 1),
                b"s": b"2",
            }
            entries.append((b"%d-0" % (1_700_000_000_000 + number * 7 + version), fields))
    return entries


def main() -> None:
    """Print one line of figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=15_000)
    entries = _log(parser.parse_args().jobs)
    writer = Writer("benchmark", 0, Place(0, "0-0"))
    began = time.perf_counter()
    for first in range(0, len(entries), _PAGE):
        writer.add(entries[first : first + _PAGE])
    _, body = writer.finish()
    written = time.perf_counter()
    read = sum(len(page) for page in Segment("benchmark", body).pages())
    ended = time.perf_counter()
    assert read == len(entries)
    print(
        f"{read:,} events: {len(body) / read:.0f} bytes each of {writer.bytes / read:.0f}; "
        f"{read / (written - began):,.0f} events/s written, {read / (ended - written):,.0f} read"
    )


if __name__ == "__main__":
    main()
