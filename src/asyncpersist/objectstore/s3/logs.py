"""Keeps secrets out of what the AWS client logs at level DEBUG."""

from __future__ import annotations

import logging
import re

__all__ = ["keep_secrets_out_of_logs"]

_LOGGERS = ("botocore.auth", "botocore.endpoint", "botocore.parsers")

# Of an error everything: stores repeat in it what was signed, and which token was wrong.
_SECRETS = re.compile(
    r"""(X-Amz-(?:Security|S3Session)-Token(?:['"]?:\s*b?['"]?|=))[^'"\s,&]+"""
    r"""|(Credential=)[^/\s]+"""
    r"""|(<(?:AccessKeyId|SecretAccessKey|SessionToken)>)[^<]+|(<Error>).+"""
    r"""|((?:accessKeyId|secretAccessKey|sessionToken|accessToken)['"]:\s*['"])[^'"]+""",
    re.IGNORECASE | re.DOTALL,
)


class _WithoutSecrets(logging.Filter):
    """Replaces tokens and keys in a record; lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if _SECRETS.search(text):
            record.msg = _SECRETS.sub(_hidden, text)
            record.args = None
        return True


def _hidden(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group) + "***"


_FILTER = _WithoutSecrets()


def keep_secrets_out_of_logs() -> None:
    """From now on the AWS client's records hold no tokens and no access keys. May be repeated."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)
