"""A Redis as deploy/redis/ has it, without a container."""

import shutil
from pathlib import Path

import pytest

from tests.servers import RedisServer

DEPLOY = Path(__file__).parents[2] / "deploy"
PASSWORD = "of-the-program"
ADMIN_PASSWORD = "of-the-operator"


class DeployedRedis(RedisServer):
    """Debian's redis-server, started by deploy/redis/start.sh; skipped where there is none."""

    def __init__(self, folder: Path, *options: str) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
        super().__init__(DEPLOY / "redis" / "start.sh", folder, password=ADMIN_PASSWORD)
        self._command = [
            str(DEPLOY / "redis" / "start.sh"),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *options,
        ]
        self.environment = {
            "REDIS_PASSWORD": PASSWORD,
            "REDIS_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "REDIS_USERS_FILE": str(folder / "users.acl"),
            "REDIS_MAXMEMORY": "64mb",
        }

    @property
    def program_url(self) -> str:
        """REDIS_URL as the program has it; `url` is the operator's."""
        return f"redis://respool:{PASSWORD}@127.0.0.1:{self.port}/0"
