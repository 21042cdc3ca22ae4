"""What all tests share; see `support.fixtures`."""

import os

# gRPC's handlers of fork(2) run in each child that a test process forks, long after its tests, and
# one was seen to die of them. Nothing here speaks gRPC in a child. Read when gRPC is loaded.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

from support.fixtures import anyio_backend as anyio_backend
from support.fixtures import census as census
from support.fixtures import pytest_collection_modifyitems as pytest_collection_modifyitems
from support.fixtures import pytest_configure as pytest_configure
from support.fixtures import pytest_sessionfinish as pytest_sessionfinish
from support.fixtures import pytest_terminal_summary as pytest_terminal_summary
