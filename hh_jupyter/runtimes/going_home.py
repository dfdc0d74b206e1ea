"""How spans travel with a result: whatever pickles it takes them along, and unpickling it at home leaves them there.

So nothing of an engine is known or changed: where it has the interface of an executor and pickles what its workers
return or raise, the caller gets exactly that, and the spans have arrived before it does.
"""

from __future__ import annotations

import copyreg
import functools
import logging
import pickle
import sys
from collections.abc import Callable
from typing import Any

from hh_jupyter.delivery.parcel import packed
from hh_jupyter.errors import WorkerError
from hh_jupyter.runtimes import receipts
from hh_jupyter.tracing import away
from hh_jupyter.tracing.value_text import name_of, text_of

logger = logging.getLogger(__name__)


class Outgoing:
    """What one call sends home.

    Args:
        name: of the function.
        carried: what went along with the call.
        receipt: tells at home which call has come back.
    """

    def __init__(self, name: str, carried: away.Carried, receipt: tuple[str, int]) -> None:
        self._name, self._process, self._receipt = name, carried.handle.process, receipt
        self._kept = carried.parcel()

    def parcel(self) -> bytes:
        """The spans and calls that are there by now, also late ones of earlier calls."""
        return packed(*self._kept.take(), self._process, self._receipt)

    def result(self, value: Any) -> _Result:
        """A result with the spans.

        Raises:
            PicklingError: it cannot be sent; the error takes the spans along.
        """
        try:
            pickled = _pickled(value)
        except Exception as error:  # Whatever pickle meets: told as what it means here.
            text = f"{self._name} returned a {name_of(type(value))} that cannot be sent back: {text_of(error)}"
            refusal = pickle.PicklingError(text)
            self._load(refusal, pickle.dumps(refusal))
            raise refusal from error
        return _Result(pickled, self.parcel())

    def carry_on(self, error: BaseException) -> None:
        """Put the spans onto an exception that is about to leave the worker.

        Raises:
            WorkerError: it cannot be sent as it is; this one takes the spans along.
        """
        try:
            pickled = pickle.dumps(error)
            pickle.loads(pickled)  # noqa: S301  # Our own. An engine whose manager cannot read one breaks altogether.
        except Exception as reason:  # The same; the original is its cause.
            told = f"{name_of(type(error))}: {text_of(error)}"
            text = f"{told} (raised by {self._name} in a worker; the exception cannot be sent back: {text_of(reason)})"
            substitute = WorkerError(text)
            self._load(substitute, pickle.dumps(substitute))
            raise substitute from error
        self._load(error, pickled)

    def _load(self, error: BaseException, pickled: bytes) -> None:
        # Pickle asks the object, not its class. Past `__setattr__`, since an exception may be a frozen dataclass.
        reduced = functools.partial(_reduced, pickled, self.parcel())
        object.__setattr__(error, "__reduce_ex__", reduced)
        registered = copyreg.dispatch_table.get(type(error))
        if registered is not None and not isinstance(registered, _OwnFirst):
            copyreg.pickle(type(error), _OwnFirst(registered))


class _OwnFirst:
    """A reducer registered for a type, which pickle asks before the object: tblib, and so Dask, has one for exceptions.

    It is passed over for an exception that carries spans.
    """

    def __init__(self, registered: Callable[[Any], Any]) -> None:
        self._registered = registered

    def __call__(self, error: Any) -> Any:
        own = vars(error).get("__reduce_ex__")
        return self._registered(error) if own is None else own(pickle.HIGHEST_PROTOCOL)


class _Result:
    """A result on its way: at home it unpickles as the plain value."""

    __slots__ = ("_parcel", "_pickled")

    def __init__(self, pickled: bytes, parcel: bytes) -> None:
        self._pickled, self._parcel = pickled, parcel

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes, bytes]]:
        return _arrived, (self._pickled, self._parcel)


def _reduced(pickled: bytes, parcel: bytes, _protocol: Any) -> tuple[Callable[..., Any], tuple[bytes, bytes]]:
    return _arrived, (pickled, parcel)


def _arrived(pickled: bytes, parcel: bytes) -> Any:
    take_in(parcel)
    return pickle.loads(pickled)  # noqa: S301  # What the engine would have unpickled itself.


def take_in(parcel: bytes) -> None:
    """Take the spans of a parcel. Never raises: this runs inside the engine."""
    try:
        found = away.receive(parcel)
        if found is not None:
            receipts.came_back(found.receipt)
    except Exception:  # boundary: an engine whose results cannot be unpickled breaks, whatever the result.
        logger.debug("spans that came back from a worker could not be taken in", exc_info=True)


def _pickled(value: Any) -> bytes:
    """The value, by cloudpickle where the engine uses it and pickle does not suffice."""
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:  # Pickle raises what the value's own code raises; without another pickler it is handed on.
        cloudpickle: Any = sys.modules.get("cloudpickle")
        if cloudpickle is None:
            raise
        return bytes(cloudpickle.dumps(value))
