"""Tenant-aware storage for the progress of AI models, on PostgreSQL.

with TenantAwareStorage.from_dsn(dsn, "acme:mcp-1:shop:production:abc123") as storage:
    storage.save_ai_progress("classifier", 0.12, training_samples=5000)
    storage.load_ai_progress()
"""

from .calls import (
    Authorization,
    Call,
    ExternalSharing,
    Grant,
    Permission,
    Progress,
    Promoted,
    Saved,
    Scope,
    Share,
    Target,
    TenantStats,
    Version,
)
from .errors import (
    AnotherTenant,
    CertificateNotFound,
    EventNotFound,
    ExternalSharingForbidden,
    IdempotencyConflict,
    InvalidArgument,
    InvalidTarget,
    LegalHold,
    LoginTooPowerful,
    MalformedCredential,
    ModelNotFound,
    MoreThanHeld,
    NotAuthorized,
    NoTenant,
    StorageError,
    TokenExpired,
    VersionConflict,
    VersionNotFound,
)
from .storage import AsyncTenantAwareStorage, Credential, TenantAwareStorage

__all__ = [
    "AnotherTenant",
    "AsyncTenantAwareStorage",
    "Authorization",
    "Call",
    "CertificateNotFound",
    "Credential",
    "EventNotFound",
    "ExternalSharing",
    "ExternalSharingForbidden",
    "Grant",
    "IdempotencyConflict",
    "InvalidArgument",
    "InvalidTarget",
    "LegalHold",
    "LoginTooPowerful",
    "MalformedCredential",
    "ModelNotFound",
    "MoreThanHeld",
    "NoTenant",
    "NotAuthorized",
    "Permission",
    "Progress",
    "Promoted",
    "Saved",
    "Scope",
    "Share",
    "StorageError",
    "Target",
    "TenantAwareStorage",
    "TenantStats",
    "TokenExpired",
    "Version",
    "VersionConflict",
    "VersionNotFound",
    "__version__",
]

__version__ = "0.1.0"
