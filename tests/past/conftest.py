"""One incident for all tests that look back at it."""

from collections.abc import Iterator

import pytest

from tests.past.incident import Incident, incident


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Incident]:
    """The incident, over and done."""
    with incident(tmp_path_factory.mktemp("incident")) as one:
        yield one
