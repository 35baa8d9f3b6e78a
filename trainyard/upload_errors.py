"""The errors of uploads and quotas: the part of the tree of `trainyard.errors` that did not fit into its module.

ServiceError
├── QuotaExceeded 403                   quota_exceeded
├── NotFound
│   └── UploadNotFound                  upload_not_found
├── Conflict
│   └── UploadOffsetMismatch            upload_offset_mismatch
├── TusVersionUnsupported 412           tus_version_unsupported
├── UploadLocked 423                    upload_locked
├── ChecksumMismatch 460                checksum_mismatch
└── Unavailable
    └── DiskFull 507                    disk_full

The statuses are those that the tus protocol names; 460 is its own.
"""

from __future__ import annotations

from trainyard.errors import Conflict, NotFound, ServiceError, Unavailable


class QuotaExceeded(ServiceError):
    """The quota of this owner is used up. Delete datasets or uploads that you no longer need."""

    status, type, code = 403, "forbidden", "quota_exceeded"


class UploadNotFound(NotFound):
    """There is no such upload: it was cancelled, has expired, or a dataset was made of it. Start a new one."""

    code = "upload_not_found"


class UploadOffsetMismatch(Conflict):
    """The upload does not go on at this offset. A HEAD request for it says where it does."""

    code = "upload_offset_mismatch"


class TusVersionUnsupported(ServiceError):
    """Uploads follow version 1.0.0 of the tus protocol. Send the header `Tus-Resumable: 1.0.0`."""

    status, type, code = 412, "invalid_request", "tus_version_unsupported"


class UploadLocked(ServiceError):
    """Another request writes to this upload. Ask for its offset with HEAD, and go on there."""

    status, type, code = 423, "conflict", "upload_locked"


class ChecksumMismatch(ServiceError):
    """The bytes do not match their checksum, so they were dropped. Send them again from the same offset."""

    status, type, code = 460, "invalid_request", "checksum_mismatch"


class DiskFull(Unavailable):
    """The disk for uploads has not enough free space. Try again later, or free some space."""

    status, type, code = 507, "insufficient_storage", "disk_full"
