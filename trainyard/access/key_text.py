"""The text of an API key: `ty_<12 characters>_<43 characters>`.

The part up to the second underscore is the key's prefix. It finds the key's row and is shown in lists; it opens
nothing. The rest has 256 random bits. So one round of SHA-256 protects it as well as a slow hash would protect a
password: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PREFIX_LENGTH = 12
_SECRET_BYTES = 32
_TEXT = re.compile(rf"(ty_[{_ALPHABET}]{{{_PREFIX_LENGTH}}})_[A-Za-z0-9_-]{{43}}")


@dataclass(frozen=True)
class NewKeyText:
    """The text of a new key, which is shown once, and what is stored of it."""

    text: str
    prefix: str
    digest: str

    def __repr__(self) -> str:
        """Leave the secret out."""
        return f"NewKeyText({self.prefix}…)"


def draw_key_text() -> NewKeyText:
    """Return the text of a new key, drawn at random."""
    prefix = "ty_" + "".join(secrets.choice(_ALPHABET) for _ in range(_PREFIX_LENGTH))
    text = f"{prefix}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    return NewKeyText(text, prefix, digest_of(text))


def find_prefix(text: str) -> str | None:
    """Return the prefix of a key. None: the text does not have a key's form."""
    found = _TEXT.fullmatch(text)
    return None if found is None else found[1]


def digest_of(text: str) -> str:
    """Return what is stored of a key."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_same(digest: str, other: str) -> bool:
    """Compare two digests in a time that does not depend on where they differ."""
    return hmac.compare_digest(digest, other)
