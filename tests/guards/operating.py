"""The guards of backups and of the checklist."""

from tests.guards.guard import Guard

GUARDS = (
    Guard(
        "restore: what is not empty stays as it is",
        "cli/backup/loading.py",
        "    if keys:\n",
        "    if False:\n",
        "tests/backup/test_restore.py",
    ),
    Guard(
        "restore: nor what is written until nobody can",
        "cli/backup/loading.py",
        "await _require_empty(client)  # Again",
        "pass  # Again",
        "tests/backup/test_restore.py",
    ),
    Guard(
        "restore: a dump is for who has the secret",
        "cli/backup/primary.py",
        'case [b"PSYNC" | b"SYNC", *_] if is_known:',
        'case [b"PSYNC" | b"SYNC", *_]:',
        "tests/backup/test_restore.py",
    ),
    Guard(
        "restore: what fails leaves nothing",
        "cli/backup/loading.py",
        "            await _empty_again(client, primary)\n            raise",
        "            raise",
        "tests/backup/test_restore.py",
    ),
    Guard(
        "restore: it is on disk when it is said to be back",
        "cli/backup/loading.py",
        "            await _until_on_disk(client)\n",
        "",
        "tests/backup/test_procedure.py",
    ),
    Guard(
        "doctor: what nobody knows does not pass",
        "cli/doctor/verdict.py",
        "    if isinstance(fact, Unknown):\n",
        '    if isinstance(fact, Unknown):\n        return passed("")\n    if isinstance(fact, Unknown):\n',
        "tests/doctor/test_judges.py",
    ),
    Guard(
        "backup: what breaks off is none",
        "cli/backup/transfer.py",
        "    if not chunk:\n        raise StoreUnavailable(",
        "    if not chunk:\n        raise SystemExit(",
        "tests/backup/test_transfer.py",
    ),
    Guard(
        "backup: a byte that changed is noticed",
        "cli/backup/shelf.py",
        "    if not is_so:",
        "    if False:",
        "tests/backup/test_shelf.py",
    ),
    Guard(
        "backup: the newest stay",
        "cli/backup/shelf.py",
        "backups(self._folder)[:-keep]",
        "backups(self._folder)[keep:]",
        "tests/backup/test_shelf.py",
    ),
)
