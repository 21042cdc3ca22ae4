"""What the tests of plugins share with those of the core; see `support.fixtures`."""

from support.fixtures import anyio_backend as anyio_backend
from support.fixtures import census as census
from support.fixtures import pytest_collection_modifyitems as pytest_collection_modifyitems
from support.fixtures import pytest_configure as pytest_configure
from support.fixtures import pytest_sessionfinish as pytest_sessionfinish
