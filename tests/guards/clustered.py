"""What keeps a store whole that is on several servers."""

from tests.guards.guard import Guard

GUARDS: tuple[Guard, ...] = (
    Guard(
        "cluster: what another node has is asked of that one",
        "core/nodes.py",
        "            except exceptions.MovedError:\n                self._owners = None\n",
        "            except exceptions.MovedError:\n                raise\n",
        "tests/clustered/test_product.py",
    ),
    Guard(
        "cluster: every primary has the functions",
        "migrations/runner.py",
        "for node in await primaries(client):",
        "for node in [client]:",
        "tests/clustered/test_product.py",
    ),
    Guard(
        "cluster: functions are there if every primary has them",
        "migrations/plan.py",
        "if not all(are_loaded):",
        "if not any(are_loaded):",
        "tests/clustered/test_product.py",
    ),
    Guard(
        "cluster: a write is confirmed by the server that has it",
        "core/nodes.py",
        "slots = [slot_of(key or first) for key in keys]",
        "slots = [slot_of(key or _HOME) for key in keys]",
        "tests/clustered/test_product.py",
    ),
    Guard(
        "cluster: no backup that is of one node",
        "cli/backup/source.py",
        "if is_of_a_cluster(url):",
        "if False:",
        "tests/clustered/test_product.py",
    ),
)
