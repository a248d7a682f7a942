"""What can go wrong, one class per SQLSTATE.

The database decides and words every refusal; this module only gives it a class. `docs/errors.md` is the registry.
"""

from __future__ import annotations

from typing import ClassVar

import psycopg

__all__ = [
    "AnotherTenant",
    "ArtifactNotFound",
    "ArtifactTooLarge",
    "CertificateNotFound",
    "ContentMismatch",
    "EventNotFound",
    "ExternalSharingForbidden",
    "IdempotencyConflict",
    "InvalidArgument",
    "InvalidTarget",
    "LegalHold",
    "LivesElsewhere",
    "LoginTooPowerful",
    "MalformedCredential",
    "ModelNotFound",
    "MoreThanHeld",
    "NoTenant",
    "NotAuthorized",
    "OrganisationMoving",
    "PassedOnTooOften",
    "QuotaExceeded",
    "StorageError",
    "TokenExpired",
    "TooManyGrants",
    "UploadNotFound",
    "UploadOffset",
    "VersionConflict",
    "VersionNotFound",
]


class StorageError(Exception):
    """Base of every error of this package.

    sqlstate: the five-character code. detail: the caller's own values, or None. hint: what to do about it, or None.
    """

    sqlstate: ClassVar[str] = ""

    def __init__(self, message: str, *, detail: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.args[0]}.", self.detail, self.hint) if part)


class InvalidArgument(StorageError):
    """A value breaks a documented rule, such as a model name of 300 characters."""

    sqlstate = "22023"


class ArtifactTooLarge(StorageError):
    """The artifact has more bytes than the limit."""

    sqlstate = "54000"


class NoTenant(StorageError):
    """Neither a credential nor a tenant set in this transaction."""

    sqlstate = "TN001"


class MalformedCredential(StorageError):
    """The credential is not one."""

    sqlstate = "TN002"


class NotAuthorized(StorageError):
    """The login may not act for this tenant."""

    sqlstate = "TN003"


class AnotherTenant(StorageError):
    """The transaction already acts for another tenant."""

    sqlstate = "TN004"


class TokenExpired(StorageError):
    """The token is genuine, but expired, not yet valid, or valid for too long."""

    sqlstate = "TN005"


class LoginTooPowerful(StorageError):
    """A login that row level security does not bind cannot serve tenants."""

    sqlstate = "TN006"


class ModelNotFound(StorageError):
    """No such model, or none that the caller may know of."""

    sqlstate = "TN101"


class VersionConflict(StorageError):
    """The model is not at the expected version."""

    sqlstate = "TN102"


class IdempotencyConflict(StorageError):
    """The idempotency key was used for another request."""

    sqlstate = "TN103"


class UploadNotFound(StorageError):
    """No such upload in the tenant: finished, aborted or abandoned."""

    sqlstate = "TN201"


class UploadOffset(StorageError):
    """The upload goes on at another offset."""

    sqlstate = "TN202"


class ContentMismatch(StorageError):
    """The bytes are not those that were announced. Found at either end of a transfer."""

    sqlstate = "TN203"


class ArtifactNotFound(StorageError):
    """The model has no such artifact, or had none at that version."""

    sqlstate = "TN204"


class InvalidTarget(StorageError):
    """A share's target is not one, is named twice, or is the sharer itself."""

    sqlstate = "TN301"


class ExternalSharingForbidden(StorageError):
    """The sharer's organisation may not share with that one."""

    sqlstate = "TN302"


class MoreThanHeld(StorageError):
    """A shared model may not be passed on wider or longer than it is held."""

    sqlstate = "TN303"


class VersionNotFound(StorageError):
    """The model has no such version."""

    sqlstate = "TN304"


class TooManyGrants(StorageError):
    """A sharer has no more than 1,000 grants on one model."""

    sqlstate = "TN305"


class PassedOnTooOften(StorageError):
    """A shared model was passed on 8 times in a row already."""

    sqlstate = "TN306"


class EventNotFound(StorageError):
    """No such sealed event in the caller's own log."""

    sqlstate = "TN401"


class LegalHold(StorageError):
    """A legal hold forbids to delete or erase it."""

    sqlstate = "TN501"


class CertificateNotFound(StorageError):
    """No such certificate of an erasure."""

    sqlstate = "TN502"


class QuotaExceeded(StorageError):
    """An administrator's quota allows no further models or bytes of artifacts."""

    sqlstate = "TN601"


class LivesElsewhere(StorageError):
    """The caller's organisation, or one to share with, lives in another cell, whose name is the detail."""

    sqlstate = "TN602"


class OrganisationMoving(StorageError):
    """The organisation is being moved to another cell."""

    sqlstate = "TN603"


_BY_SQLSTATE = {cls.sqlstate: cls for cls in StorageError.__subclasses__()}


def translate(error: psycopg.Error | UnicodeEncodeError) -> Exception:
    """Give a database error its class.

    Returns: a StorageError for the codes above and for any other data error (SQLSTATE class 22, or a value that cannot
    be sent, such as a NUL character or half a surrogate pair) or limit of PostgreSQL (class 54); otherwise the error
    itself: a lost connection stays psycopg's.
    """
    if isinstance(error, UnicodeEncodeError):
        return InvalidArgument(
            "a text is not Unicode",
            detail=f"Character {error.start + 1} of it is half of a surrogate pair.",
            hint="A name taken from a file may have come from another encoding: decode it, or pass another name.",
        )
    cls = _BY_SQLSTATE.get(error.sqlstate or "")
    diag = error.diag
    if (error.sqlstate or "").startswith("54") and diag.source_function != "exec_stmt_raise":
        # Not raised by our functions: a limit of PostgreSQL itself.
        return InvalidArgument(
            diag.message_primary or str(error),
            detail=diag.message_detail,
            hint="This is beyond a limit of PostgreSQL: send less at once, or flatter JSON.",
        )
    if cls is None and isinstance(error, psycopg.DataError):
        cls = InvalidArgument
    if cls is None:
        return error
    return cls(diag.message_primary or str(error), detail=diag.message_detail, hint=diag.message_hint)
