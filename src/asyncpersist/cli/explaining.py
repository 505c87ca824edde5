"""Errors as the command line tells them: in one line, and in terms of its own options."""

from __future__ import annotations

from asyncpersist.errors import AsyncPersistError, OutputNotEmpty

__all__ = ["explain"]

_ON_THE_COMMAND_LINE = {
    "takeover=True": "--takeover",
    "single_writer=True": "--single-writer",
    "Give AwsS3Settings access_key and secret_access_key, or set AWS_ACCESS_KEY_ID": "Set AWS_ACCESS_KEY_ID",
    "Give the account's key, log in": "Set AZURE_STORAGE_KEY, log in",
    'say on_restart="overwrite"': 'say on_restart="overwrite" where the program writes it,',
}
"""What the package calls it -> what that is here."""

_EXTRA = 'pip install "asyncpersist['


def explain(error: BaseException) -> str | None:
    """What an error says that explains itself: what the package raises on purpose. None for any other."""
    text = " ".join(str(error).split())
    if not isinstance(error, AsyncPersistError) and not (isinstance(error, ImportError) and _EXTRA in text):
        return None
    for ours, here in _ON_THE_COMMAND_LINE.items():
        text = text.replace(ours, here)
    if isinstance(error, OutputNotEmpty):
        text += " A run without --state leaves such a file: nothing is kept of it, so that no run goes on with it."
    return text
