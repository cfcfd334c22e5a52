"""For tests: a clock to move, a log-in for every test client, and the contract of stores.

To test a store of your own, subclass the contract and override its one fixture; what the store
cannot do is declared as a class attribute, and its documentation says so too:

    class TestMyStore(StoreContract):
        lists = False

        @pytest.fixture
        def store(self):
            return MyStore(client)

The contract needs pytest, and is imported when it is asked for; the rest works without.
"""

from typing import TYPE_CHECKING, Any

from coatcheck.testing.clients import login
from coatcheck.testing.clock import NOW, Clock

if TYPE_CHECKING:
    from coatcheck.testing.contract import (
        HOUR,
        AsyncStoreContract,
        StoreContract,
        changed,
        ident,
        record,
        revision,
    )

__all__ = [
    "HOUR",
    "NOW",
    "AsyncStoreContract",
    "Clock",
    "StoreContract",
    "changed",
    "ident",
    "login",
    "record",
    "revision",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from coatcheck.testing import contract

    return getattr(contract, name)
