"""Every error this package raises on purpose.

::

    AsyncPersistError
    ├── GraphError              what was defined cannot work: mend the program
    │   ├── SchemaError
    │   ├── ColumnNotFound
    │   └── NotRowByRow
    ├── InputError              what was read cannot be taken: mend the input, or on_error="skip"
    │   ├── InputNotFound
    │   ├── InputChanged
    │   └── MalformedInput
    ├── FunctionFailed          a user's function raised, or returned what does not fit: mend it, or let it be retried
    ├── RowError                an expression has no value for a row: mend the expression or the row
    ├── OutputError             an output file is not as it was left: restore it or say on_restart="overwrite"
    │   ├── OutputNotEmpty
    │   └── OutputChanged
    ├── StateError              the state root cannot be used: the message says what to do
    │   ├── StateUnwritable
    │   ├── ForeignRoot
    │   ├── NewerFormat
    │   ├── StateInUse
    │   ├── Fenced
    │   ├── DamagedState
    │   ├── GraphChanged
    │   └── ModeChanged
    ├── StoreUnavailable        the store did not answer: the same call may succeed later
    ├── Unsupported             asked for something that is not built yet
    │   └── NotBuilt
    └── RunStopped              the run ended before the call was answered

Messages name the thing, say what is wrong with it, and what to do.
"""

from __future__ import annotations

__all__ = [
    "AsyncPersistError",
    "ColumnNotFound",
    "DamagedState",
    "Fenced",
    "ForeignRoot",
    "FunctionFailed",
    "GraphChanged",
    "GraphError",
    "InputChanged",
    "InputError",
    "InputNotFound",
    "MalformedInput",
    "ModeChanged",
    "NewerFormat",
    "NotBuilt",
    "NotRowByRow",
    "OutputChanged",
    "OutputError",
    "OutputNotEmpty",
    "RowError",
    "RunStopped",
    "SchemaError",
    "StateError",
    "StateInUse",
    "StateUnwritable",
    "StoreUnavailable",
    "Unsupported",
]


class AsyncPersistError(Exception):
    """The root of the tree."""


class GraphError(AsyncPersistError, ValueError):
    """What was defined cannot work. Raised while the graph is built, never while it runs."""


class SchemaError(GraphError):
    """A schema or type that cannot be used."""


class ColumnNotFound(GraphError):
    """An expression names a column that its table does not have; the message names those it has."""


class NotRowByRow(GraphError):
    """An expression whose value for a row depends on other rows."""


class InputError(AsyncPersistError):
    """What was read cannot be taken."""


class InputNotFound(InputError, FileNotFoundError):
    """A path that names nothing."""


class InputChanged(InputError):
    """An input that had been read was changed or deleted in a way this version does not follow."""


class MalformedInput(InputError, ValueError):
    """A line or record that is broken or does not fit the schema; names file, line and text."""


class RowError(AsyncPersistError, ArithmeticError):
    """An expression has no value for a row: overflow, division by zero, a failed conversion."""


class FunctionFailed(AsyncPersistError):
    """A user's function raised for a row, took too long, or returned something else than its type.

    The message names the function and its arguments; the cause is what was raised. It is never cached.
    """


class OutputError(AsyncPersistError):
    """An output file is not as it was left."""


class OutputNotEmpty(OutputError):
    """A sink was to start in a file that already holds something."""


class OutputChanged(OutputError):
    """An output file is missing, shorter or different from what was committed."""


class StateError(AsyncPersistError):
    """The state root cannot be used as it is."""


class StateUnwritable(StateError):
    """The root cannot be made or written."""


class ForeignRoot(StateError):
    """The root holds files of something else."""


class NewerFormat(StateError):
    """The root was written by a newer version of this package."""


class StateInUse(StateError):
    """A run that is still alive owns the root."""


class Fenced(StateError):
    """Another run has taken the root over; this one must end."""


class DamagedState(StateError):
    """An object is missing, truncated or altered; nothing was changed."""


class GraphChanged(StateError):
    """The graph differs from the one the root was written by."""


class ModeChanged(StateError):
    """The persistence mode or access differs from what the root holds."""


class StoreUnavailable(AsyncPersistError, OSError):
    """The store did not answer or refused for now; the same call may succeed later."""


class Unsupported(AsyncPersistError, NotImplementedError):
    """Something that is documented but not built yet."""


class NotBuilt(Unsupported, AttributeError):
    """A documented name of a module that is not there yet; an `AttributeError`, so that `hasattr` says no."""


class RunStopped(AsyncPersistError):
    """The run ended before the call was answered."""
