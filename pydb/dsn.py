"""Reads a DSN, and refuses a wrong one without quoting it: libpq's own message holds the password that is in it."""

from __future__ import annotations

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict

__all__ = ["InvalidDsn", "parse"]

FORMS = (
    "Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for @, %2F for /, %3A for :, %3F for ? and %25 for "
    "% inside the user or password, or keywords such as: host=HOST dbname=DATABASE user=USER"
)


class InvalidDsn(ValueError):
    """A text that is no DSN. message: what is wrong, without the text; hint: what to write."""

    def __init__(self, message: str, hint: str = FORMS) -> None:
        super().__init__(f"{message} {hint}")
        self.message = message
        self.hint = hint


def parse(text: str) -> str:
    """The connection string as libpq takes it: without white space around it, and without SQLAlchemy's +driver.

    Returns: a URL of scheme postgresql or postgres, or keywords.
    Raises: InvalidDsn, also for what libpq would misread: an unescaped sign in a password moves the rest of it into the
    host, port or database, which are quoted when connecting fails.
    """
    text = text.strip()
    if text[:1] in ("'", '"'):
        raise InvalidDsn("The DSN begins with a quotation mark.", "Remove the quotation marks around it.")
    url = re.match(r"(postgres(?:ql)?)(?:\+\w+)?://(.*)", text, re.DOTALL)
    if url is not None:
        text = f"{url[1]}://{url[2]}"
        # libpq takes the user and password from before the first @, unless a / comes first.
        place = re.sub(r"^[^@/]*@", "", url[2])
        if "@" in place.partition("?")[0]:
            raise InvalidDsn("The DSN has an @ or a / that is not escaped.")
    elif re.match(r"[\w+.:-]+://", text):
        raise InvalidDsn("The DSN has a scheme that is not PostgreSQL's.")
    try:
        fields = conninfo_to_dict(text)
    except psycopg.Error:
        raise InvalidDsn("The DSN cannot be read.") from None
    if re.fullmatch(r"[\d,]*", str(fields.get("port", ""))) is None:
        raise InvalidDsn("The DSN's port is no number.")
    if "://" in str(fields.get("dbname", "")):
        raise InvalidDsn("The DSN has another one as its database.")
    return text
