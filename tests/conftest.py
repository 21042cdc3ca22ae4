"""What all tests share; see `support.fixtures`."""

from support.fixtures import anyio_backend as anyio_backend
from support.fixtures import census as census
from support.fixtures import pytest_collection_modifyitems as pytest_collection_modifyitems
from support.fixtures import pytest_configure as pytest_configure
from support.fixtures import pytest_sessionfinish as pytest_sessionfinish
from support.fixtures import pytest_terminal_summary as pytest_terminal_summary
