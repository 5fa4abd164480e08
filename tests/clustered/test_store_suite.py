"""The store's own suite, on a cluster."""

# ruff: noqa: F403
from tests.store.test_admission import *
from tests.store.test_append import *
from tests.store.test_invariants import *
from tests.store.test_key_book import *
from tests.store.test_migrations import *
from tests.store.test_output import *
from tests.store.test_timers import *
