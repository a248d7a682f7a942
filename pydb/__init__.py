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
    Version,
)
from .errors import (
    AnotherTenant,
    ExternalSharingForbidden,
    IdempotencyConflict,
    InvalidArgument,
    InvalidTarget,
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
    "Credential",
    "ExternalSharing",
    "ExternalSharingForbidden",
    "Grant",
    "IdempotencyConflict",
    "InvalidArgument",
    "InvalidTarget",
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
    "TokenExpired",
    "Version",
    "VersionConflict",
    "VersionNotFound",
    "__version__",
]

__version__ = "0.1.0"
