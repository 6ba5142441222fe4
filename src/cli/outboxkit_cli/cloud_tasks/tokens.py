"""Identity tokens as Google signs them, and the keys that their readers check them with."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

LIFETIME: Final = 3600
# What Cloud Run puts in a signature's place once its IAM has checked the token.
REMOVED: Final = "SIGNATURE_REMOVED_BY_GOOGLE"


@dataclass(frozen=True)
class SigningKey:
    """An RSA key and its name."""

    id: str
    private: rsa.RSAPrivateKey

    @classmethod
    def generate(cls) -> "SigningKey":
        """Make one."""
        return cls(secrets.token_hex(20), rsa.generate_private_key(public_exponent=65537, key_size=2048))

    def jwk(self) -> dict[str, Any]:
        """Return the public half."""
        public = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {"kty": public["kty"], "n": public["n"], "e": public["e"], "kid": self.id, "use": "sig", "alg": "RS256"}


class Signer:
    """Signs identity tokens in the name of an issuer, whose URL is set once it is known."""

    def __init__(self) -> None:
        self.issuer = ""
        self._keys = [SigningKey.generate()]

    def sign(self, email: str, audience: str, now: float, *, expired: bool = False) -> str:
        """Return a token for an account and an audience; it is good for an hour, or ran out an hour ago."""
        issued = int(now) - (2 * LIFETIME if expired else 0)
        subject = account_id(email)
        claims = {
            "iss": self.issuer,
            "aud": audience,
            "azp": subject,
            "sub": subject,
            "email": email,
            "email_verified": True,
            "iat": issued,
            "exp": issued + LIFETIME,
        }
        key = self._keys[0]
        return jwt.encode(claims, key.private, algorithm="RS256", headers={"kid": key.id})

    def jwks(self) -> dict[str, Any]:
        """Return every key that a token may be signed with."""
        return {"keys": [key.jwk() for key in self._keys]}

    def rotate(self, *, retire: bool = False) -> None:
        """Sign with a new key from now on; with `retire` the earlier ones are withdrawn at once."""
        self._keys = [SigningKey.generate(), *([] if retire else self._keys)]


def account_id(email: str) -> str:
    """Return the number of a service account: always the same, and 21 digits long as Google's are."""
    return str(10**20 + int(hashlib.sha256(email.encode()).hexdigest(), 16) % 10**20)


def strip_signature(token: str) -> str:
    """Return the token as a container on Cloud Run sees it."""
    return f"{token.rpartition('.')[0]}.{REMOVED}"
