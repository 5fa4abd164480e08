"""The names of all keys. Each key of a shard carries its hash tag, so that an append is one slot."""

from functools import lru_cache
from hashlib import blake2b

from msgspec import Struct

from core.effects import Counter, Timer, counter_of, is_in_flight
from core.errors import FromTheFuture
from core.states import Job, Lane

BELL = "respool:bell:"  # + job id: look at this job, or here is a chunk of its output.
OUTPUT_RING = b"output"  # What a job's bell says for a chunk; for a transition it says its version.
WORK_BELL_NAME = "work"
WORK_BELL = BELL + WORK_BELL_NAME  # A lane that somebody was hungry for has work.
HANDED_OVER = "newer-release"  # Who holds what waits for a newer release's workers: nobody.
META = "respool:{0}:meta"  # Shard count, incarnation, applied migrations.
MIGRATION_LOCK = "respool:{0}:migrating"
REPAIR_LOCK = "respool:{0}:repairing"
API_KEYS = "respool:{0}:keys"  # A stream of what happened to each API key; never trimmed.
API_KEYS_BELL_NAME = "keys"


_LANES = frozenset(lane.value for lane in Lane)


class LaneName(Struct, frozen=True):
    """A lane: who waits in it, and how urgently."""

    lane: Lane
    queue: str
    model: str

    def __str__(self) -> str:
        return f"{self.lane}:{self.queue}:{self.model}"

    @property
    def serves(self) -> str:
        """Whom an entry in this lane concerns, whatever its priority."""
        return f"{self.queue}:{self.model}"

    @staticmethod
    def parse(text: str) -> "LaneName":
        """The reverse of str(); a model's name may contain colons, a queue's may not.

        Raises FromTheFuture for a lane that only a newer release has.
        """
        lane, queue, model = text.split(":", 2)
        if lane not in _LANES:
            raise FromTheFuture(f"this release knows no lane {text!r}: upgrade it")
        return LaneName(Lane(lane), queue, model)


class ShardKeys(Struct, frozen=True):
    """The keys of one shard."""

    shard: int

    @property
    def prefix(self) -> str:
        return f"respool:{{{self.shard}}}:"

    @property
    def log(self) -> str:
        return f"{self.prefix}log"

    @property
    def sequence(self) -> str:
        """The last sequence number given to a log entry."""
        return f"{self.prefix}sequence"

    @property
    def gaps(self) -> str:
        """A hash: numbers of the log that are missing for good, as an operator has accepted."""
        return f"{self.prefix}gaps"

    @property
    def copy(self) -> str:
        """A stream: the log in the making, without what is to be forgotten."""
        return f"{self.prefix}log:copy"

    @property
    def before_copy(self) -> str:
        """A stream, for no longer than a function runs: what was the log."""
        return f"{self.prefix}log:old"

    @property
    def archived(self) -> str:
        """A hash: how far the log is in its archive, and who archives it."""
        return f"{self.prefix}archived"

    @property
    def counts(self) -> str:
        return f"{self.prefix}counts"

    @property
    def timers(self) -> str:
        return f"{self.prefix}timers"

    @property
    def lanes(self) -> str:
        """A set: the name of every lane there is."""
        return f"{self.prefix}lanes"

    @property
    def hungry(self) -> str:
        """A set of `queue:model` that some worker found nothing for and is waiting to hear of."""
        return f"{self.prefix}hungry"

    @property
    def paused(self) -> str:
        """A set of queues whose jobs are not to be claimed."""
        return f"{self.prefix}paused"

    @property
    def recovery(self) -> str:
        """A hash: when somebody last looked for what to recover, and from when on that is allowed."""
        return f"{self.prefix}recovery"

    @property
    def subjects(self) -> str:
        """A set: workers and queues that have a head (shard 0 only)."""
        return f"{self.prefix}subjects"

    @property
    def synced(self) -> str:
        """When the durability of a write was last asked for; written only so as to have written."""
        return f"{self.prefix}synced"

    def carried(self, job_id: str) -> str:
        """A hash: a job's log entries that the log itself has no more, for as long as its head is there."""
        return f"{self.prefix}carried:{job_id}"

    def head(self, subject: str) -> str:
        """The head of a job, or of a `worker:NAME` or a `queue:NAME`."""
        return f"{self.prefix}{subject}" if ":" in subject else f"{self.prefix}job:{subject}"

    def output(self, job_id: str) -> str:
        return f"{self.prefix}out:{job_id}"

    def ready(self, lane: LaneName) -> str:
        return _ready(self.shard, lane.lane, lane.queue, lane.model)

    def idempotency(self, tenant: str, key: str) -> str:
        return f"{self.prefix}idem:{tenant}:{key}"

    def buckets(self, key: str) -> str:
        """A hash: what is left to an API key of its requests and tokens. Not derived from the log."""
        return f"{self.prefix}buckets:{key}"

    def alive(self, worker: str) -> str:
        """A worker's heartbeat, which expires."""
        return f"{self.prefix}alive:{worker}"


@lru_cache(maxsize=4_096)
def _ready(shard: int, lane: Lane, queue: str, model: str) -> str:
    return f"{ShardKeys(shard).prefix}ready:{LaneName(lane, queue, model)}"


def timer_member(job_id: str, timer: Timer) -> str:
    return f"{job_id}:{timer}"


def count_field(counter: Counter, queue: str) -> str:
    return f"{counter}:{queue}"


def in_flight_field(key: str) -> str:
    """The count of an API key's jobs that have not ended, beside those of queues."""
    return f"in_flight:{key}"


def count_fields(job: Job) -> list[str]:
    """Every count that a job is in."""
    counter = counter_of(job)
    fields = [] if counter is None else [count_field(counter, job.queue)]
    return [*fields, in_flight_field(job.key)] if job.key and is_in_flight(job) else fields


def shard_for(text: str, shards: int) -> int:
    """A shard that depends on nothing but `text`, the same on every host."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) % shards
