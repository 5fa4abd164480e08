"""The guards of the views, and what holds them against the log."""

from tests.guards.guard import Guard

GUARDS = (
    Guard(
        "views: rows are read with the commit that they are of",
        "projections/checkpoint.py",
        "if commits < 0 or (at is not None and commits != at.commits):",
        "if False:",
        "tests/projections/test_runner.py",
    ),
    Guard(
        "views: the checkpoint is held against the log on resuming",
        "projections/runner.py",
        "at = await self._view.verified_checkpoint()",
        "at = await self._view.checkpoint()",
        "tests/projections/test_runner.py",
    ),
    Guard(
        "views: a missing entry is an error",
        "projections/feed.py",
        "if entry.sequence != sequence:",
        "if False:",
        "tests/projections/test_runner.py",
    ),
    Guard(
        "views: nothing is taken for granted after a commit that failed",
        "projections/runner.py",
        """        except BaseException:
            self.forget()  # It may have been written, by us or by another.
            raise
""",
        """        except BaseException:
            raise
""",
        "tests/projections/test_runner.py",
    ),
    Guard(
        "views: an entry has to be the next one of its subject",
        "projections/rows.py",
        "if entry.version != known + 1:",
        "if False:",
        "tests/projections/test_runner.py",
    ),
    Guard(
        "verify: what differs is held against the log up to the moment at which it was seen",
        "projections/replay/shard.py",
        "            await self.fold(seen_now.last)\n            holders",
        "            holders",
        "tests/replay/test_live.py",
    ),
    Guard(
        "verify: counts are held against the log up to the moment at which they were read",
        "projections/replay/totals.py",
        "    await shard.fold(at.last)\n",
        "",
        "tests/replay/test_live.py",
    ),
    Guard(
        "repair: one at a time",
        "projections/replay/repair.py",
        "return await while_locked(store.client, REPAIRING, work, 0.0, lambda _: None)",
        "return await work()",
        "tests/replay/test_repair.py",
    ),
    Guard(
        "gaps: only what one explains is parked in a strict build",
        "projections/runner.py",
        "elif self._strict and not self._gaps.explain(entry, batch.row_of(entry.subject)):",
        "elif False:",
        "tests/replay/test_repair.py",
    ),
)
