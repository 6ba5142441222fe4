"""Every token that lets nobody in, and those that do, over a socket."""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from integration.worker.oidc import IN, UNAUTHORIZED, outcome, send, settings
from oidc_issuer import ACCOUNT, AUDIENCE, DISCOVERY, JWKS, OidcIssuer, base64url, compact, jwk, pem, rs256, rsa_key
from outboxkit import Handlers
from outboxkit.application import Application
from waiting import until
from workers import Worker, settings_for

Make = Callable[[OidcIssuer], str]
NOW = int(time.time())


@pytest.fixture(scope="module")
def issuer() -> Iterator[OidcIssuer]:
    """One issuer for the module: no test here changes it."""
    made = OidcIssuer()
    yield made
    made.down()


@pytest.fixture(scope="module")
def worker(issuer: OidcIssuer) -> Iterator[Worker]:
    """One worker that believes it."""
    made = Worker(settings_for(None, **settings(issuer)), Application(name="tests", handlers=Handlers()))
    yield made
    made.stop()


def signed(header: dict[str, Any], sign: Callable[[bytes], bytes]) -> Make:
    """A token with the claims of a sound one."""
    return lambda issuer: compact(issuer.header(**header), issuer.claims(), sign)


def claiming(**claims: Any) -> Make:
    """A token that the issuer has signed."""
    return lambda issuer: issuer.token(**claims)


def raw_claims(**texts: str) -> Make:
    """The same, with JSON texts for values."""

    def make(issuer: OidcIssuer) -> str:
        kept = {name: json.dumps(value) for name, value in issuer.claims().items()} | texts
        claims = "{" + ",".join(f'"{name}":{text}' for name, text in kept.items()) + "}"
        return compact(issuer.header(), claims.encode(), rs256(issuer.keys["first"]))

    return make


def raw_header(header: bytes) -> Make:
    """A token with this header, signed."""
    return lambda issuer: compact(header, issuer.claims(), rs256(issuer.keys["first"]))


def altered(change: Callable[[list[str]], list[str]]) -> Make:
    """A sound token with its parts changed."""
    return lambda issuer: ".".join(change(issuer.token().split(".")))


def hs256(key: bytes) -> Callable[[bytes], bytes]:
    """What signs with a shared secret."""
    return lambda content: hmac.digest(key, content, "sha256")


def flipped(part: str) -> str:
    """The part with one bit changed in its middle."""
    content = bytearray(urlsafe_b64decode(part + "=="))
    content[len(content) // 2] ^= 1
    return base64url(bytes(content))


FIRST = rsa_key("first")
STRANGER = rsa_key("a stranger's")
KEY_CONFUSION = "not signed with RS256"
NO_TOKEN = "is no JSON Web Token"
NONE_AT_ALL = "no bearer token"
WRONG_SIGNATURE = "signature of the token is wrong"
TYPE = "not of its type"

REFUSED: dict[str, tuple[Make, str]] = {
    # How it is signed.
    "alg none": (signed({"alg": "none"}, lambda _: b""), KEY_CONFUSION),
    "alg none with a signature": (signed({"alg": "none"}, rs256(FIRST)), KEY_CONFUSION),
    **{
        f"alg {alg!r}": (signed({"alg": alg}, rs256(FIRST)), KEY_CONFUSION)
        for alg in ("None", "rs256", "RS256 ", "Rs256")
    },
    "alg is a list": (signed({"alg": ["RS256"]}, rs256(FIRST)), KEY_CONFUSION),
    "no alg": (signed({"alg": None}, rs256(FIRST)), KEY_CONFUSION),
    "HS256 with the public key": (signed({"alg": "HS256"}, hs256(pem(FIRST))), KEY_CONFUSION),
    "HS256 with the key in its set": (
        signed({"alg": "HS256"}, hs256(json.dumps(jwk("first", FIRST)).encode())),
        KEY_CONFUSION,
    ),
    "RS512": (
        signed({"alg": "RS512"}, lambda content: FIRST.sign(content, padding.PKCS1v15(), hashes.SHA512())),
        KEY_CONFUSION,
    ),
    "RS256 that is PSS": (
        signed(
            {}, lambda content: FIRST.sign(content, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
        ),
        WRONG_SIGNATURE,
    ),
    "ES256": (
        signed(
            {"alg": "ES256"},
            lambda content: ec.generate_private_key(ec.SECP256R1()).sign(content, ec.ECDSA(hashes.SHA256())),
        ),
        KEY_CONFUSION,
    ),
    "a wrong key": (signed({}, rs256(STRANGER)), WRONG_SIGNATURE),
    "no signature": (altered(lambda parts: [*parts[:2], ""]), WRONG_SIGNATURE),
    "a signature altered": (altered(lambda parts: [*parts[:2], flipped(parts[2])]), WRONG_SIGNATURE),
    "claims altered": (
        altered(lambda parts: [parts[0], base64url(urlsafe_b64decode(parts[1] + "==") + b" "), parts[2]]),
        WRONG_SIGNATURE,
    ),
    "a header altered": (
        altered(lambda parts: [base64url(b'{"alg":"RS256","kid":"first"}'), *parts[1:]]),
        WRONG_SIGNATURE,
    ),
    # Which key.
    "an unknown kid": (signed({"kid": "nobody's"}, rs256(STRANGER)), "a key that is not of the issuer"),
    "an unknown kid with NUL": (signed({"kid": "first\0"}, rs256(FIRST)), "a key that is not of the issuer"),
    "no kid": (signed({"kid": None}, rs256(FIRST)), "names no key"),
    "kid is a number": (signed({"kid": 1}, rs256(FIRST)), NO_TOKEN),
    "a key of its own in the header": (signed({"jwk": jwk("first", STRANGER)}, rs256(STRANGER)), WRONG_SIGNATURE),
    "a key of its own, and no kid": (
        signed({"jwk": jwk("own", STRANGER), "kid": None}, rs256(STRANGER)),
        "names no key",
    ),
    "crit": (signed({"crit": ["exp"], "exp": 1}, rs256(FIRST)), NO_TOKEN),
    "crit is empty": (signed({"crit": []}, rs256(FIRST)), NO_TOKEN),
    "b64 is false": (signed({"crit": ["b64"], "b64": False}, rs256(FIRST)), NO_TOKEN),
    # Whose, for whom, when.
    "another audience": (claiming(aud="https://other.test"), "another audience"),
    "an audience with a slash more": (claiming(aud=f"{AUDIENCE}/"), "another audience"),
    "an audience that begins like ours": (claiming(aud=AUDIENCE[:-1]), "another audience"),
    "a list of other audiences": (claiming(aud=["https://a.test", "https://b.test"]), "another audience"),
    "an audience in a list in a list": (claiming(aud=[[AUDIENCE]]), "another audience"),
    "an audience in an object": (claiming(aud={AUDIENCE: 1}), "another audience"),
    "no audience": (claiming(aud=None), "no claim aud"),
    "an empty audience": (claiming(aud=[]), "no claim aud"),
    "another issuer": (claiming(iss="https://issuer.test"), "another issuer"),
    "Google, which is not our issuer": (claiming(iss="https://accounts.google.com"), "another issuer"),
    "part of the issuer": (lambda issuer: issuer.token(iss=issuer.url[:-1]), "another issuer"),
    "the issuer with a slash more": (lambda issuer: issuer.token(iss=f"{issuer.url}/"), "another issuer"),
    "the issuer in a list": (lambda issuer: issuer.token(iss=[issuer.url]), "another issuer"),
    "no issuer": (claiming(iss=None), "no claim iss"),
    "another account": (claiming(email="mallory@project.iam.gserviceaccount.com"), "another account"),
    "the account in capitals": (claiming(email=ACCOUNT.upper()), "another account"),
    "the account and NUL": (claiming(email=f"{ACCOUNT}\0"), "another account"),
    "accounts in a list": (claiming(email=[ACCOUNT]), TYPE),
    "no account": (claiming(email=None), "no claim email"),
    "the account as subject only": (claiming(email=None, sub=ACCOUNT), "no claim email"),
    "an e-mail address that is not verified": (claiming(email_verified=False), "has not verified"),
    "an e-mail address of which nothing is said": (claiming(email_verified=None), "has not verified"),
    "verified in quotes": (claiming(email_verified="true"), TYPE),
    "verified as a number": (claiming(email_verified=1), TYPE),
    "expired": (claiming(iat=NOW - 7200, exp=NOW - 3600), "has expired"),
    "expired for more than the leeway": (lambda issuer: issuer.token(exp=int(time.time()) - 31), "has expired"),
    "expired in 1970": (claiming(exp=0), "has expired"),
    "expires before the world began": (claiming(exp=-(10**30)), "has expired"),
    "no expiry": (claiming(exp=None), "no claim exp"),
    "an expiry in quotes": (claiming(exp=str(NOW + 3600)), TYPE),
    "an expiry that is true": (claiming(exp=True), "has expired"),
    "an expiry that is an object": (claiming(exp={}), NO_TOKEN),
    "an expiry that is infinite": (raw_claims(exp="1e999"), NO_TOKEN),
    "an expiry that is no number": (raw_claims(exp="NaN"), NO_TOKEN),
    "an expiry of 10,000 digits": (raw_claims(exp="9" * 4400), NO_TOKEN),
    "not yet issued": (claiming(iat=NOW + 3600, exp=NOW + 7200), "not yet valid"),
    "no time of issue": (claiming(iat=None), "no claim iat"),
    "a time of issue in quotes": (claiming(iat=str(NOW)), TYPE),
    "not yet valid": (claiming(nbf=NOW + 3600), "not yet valid"),
    "not valid before a time in quotes": (claiming(nbf=str(NOW)), TYPE),
    # What is no token.
    "two parts": (altered(lambda parts: parts[:2]), NO_TOKEN),
    "four parts": (altered(lambda parts: [*parts, "AAAA"]), NO_TOKEN),
    "no parts": (lambda _: "secret", NO_TOKEN),
    "dots": (lambda _: "..", NO_TOKEN),
    "an encrypted token": (lambda _: "eyJhbGciOiJSU0EtT0FFUCJ9.AA.AA.AA.AA", NO_TOKEN),
    "a header that is no JSON": (raw_header(b"rubbish"), NO_TOKEN),
    "a header that is a list": (raw_header(b"[]"), NO_TOKEN),
    "a header that is no UTF-8": (raw_header(b'{"alg":"RS256","kid":"\xff"}'), NO_TOKEN),
    "a header without end": (raw_header(b"[" * 3000), NO_TOKEN),
    "claims that are no JSON": (lambda i: compact(i.header(), b"rubbish", rs256(FIRST)), NO_TOKEN),
    "claims that are a list": (lambda i: compact(i.header(), b"[]", rs256(FIRST)), NO_TOKEN),
    "claims without end": (lambda i: compact(i.header(), b"[" * 3000, rs256(FIRST)), NO_TOKEN),
    "padding within": (altered(lambda parts: [f"{parts[0]}=", *parts[1:]]), NONE_AT_ALL),
    "a longer token than any": (claiming(note="x" * 7000), "longer than 8192 bytes"),
}

ACCEPTED: dict[str, Make] = {
    "a sound one": claiming(),
    "an audience in a list": claiming(aud=[AUDIENCE]),
    "ours among other audiences": claiming(aud=["https://other.test", AUDIENCE]),
    "expired within the leeway": lambda issuer: issuer.token(exp=int(time.time()) - 5),
    "issued by a clock that is a little ahead": lambda issuer: issuer.token(iat=int(time.time()) + 20),
    "a fraction of a second": claiming(exp=NOW + 3600.5, iat=NOW - 0.5),
    "an expiry beyond all floats": claiming(exp=10**400),
    "valid since now": claiming(nbf=NOW),
    "addresses of keys in the header": lambda issuer: issuer.token(
        header={"jku": f"{issuer.url}/evil", "x5u": f"{issuer.url}/evil", "jwk": jwk("first", STRANGER)}
    ),
    "a long one": claiming(note="x" * 4000),
}


class TestRefused:
    """401, a challenge that says why, and nothing of the token anywhere."""

    @pytest.fixture(autouse=True)
    def every_refusal_is_logged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many there are."""
        monkeypatch.setattr("outboxkit_worker.refusals.LINES", 10_000)

    @pytest.mark.parametrize("name", REFUSED)
    def test_a_token_that_lets_nobody_in(
        self, name: str, worker: Worker, issuer: OidcIssuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Twice: what was refused is not remembered as valid."""
        make, why = REFUSED[name]
        token = make(issuer)
        for _ in range(2):
            response = send(worker, token)
            assert outcome(response) == UNAUTHORIZED
            assert why in response.json()["detail"]
            challenge = response.headers["www-authenticate"]
            if why == NONE_AT_ALL:
                assert challenge == 'Bearer realm="outboxkit"'
            else:
                assert challenge.startswith('Bearer realm="outboxkit", error="invalid_token", error_description="')
                assert why in challenge
        assert caplog.text.count("Refused trigger") == 2
        said = response.text + challenge + caplog.text + str([vars(record) for record in caplog.records])
        assert not [part for part in token.split(".") if len(part) > 20 and part in said]

    def test_nobody_asks_where_a_token_says_its_key_is(self, worker: Worker, issuer: OidcIssuer) -> None:
        """The headers jku and x5u are not looked at, whoever has signed the token."""
        for header in ({"jku": f"{issuer.url}/evil"}, {"x5u": f"{issuer.url}/evil", "kid": "evil"}):
            assert (
                outcome(send(worker, compact(issuer.header(**header), issuer.claims(), rs256(STRANGER))))
                == UNAUTHORIZED
            )
        assert set(issuer.fetches) == {DISCOVERY, JWKS}

    def test_a_token_whose_signature_cloud_run_has_removed(self, worker: Worker, issuer: OidcIssuer) -> None:
        """Says so, and what to do."""
        response = send(worker, ".".join([*issuer.token().split(".")[:2], "SIGNATURE_REMOVED_BY_GOOGLE"]))
        assert outcome(response) == UNAUTHORIZED
        for word in ("Cloud Run", "SIGNATURE_REMOVED_BY_GOOGLE", "X-Serverless-Authorization", "WORKER_TRIGGER_OIDC"):
            assert word in response.json()["detail"]
        assert "Cloud Run has removed the signature" in response.headers["www-authenticate"]

    def test_a_token_of_100_kilobytes(self, worker: Worker) -> None:
        """The server reads no head of that size: 431."""
        assert outcome(send(worker, "a" * 100_000)) == (431, "headers-too-large")

    def test_what_a_person_needs_to_know_is_logged(
        self, worker: Worker, issuer: OidcIssuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Audience, account and kid of a refused token, on one line, cut."""
        send(worker, issuer.token(aud="https://other.test"))
        send(worker, issuer.token(email="a\nb" + "c" * 500))
        send(worker, compact(issuer.header(kid="k\x1bid"), issuer.claims(), rs256(STRANGER)))
        first, second, third = [vars(r) for r in caplog.records if r.getMessage().startswith("Refused trigger")]
        assert (first["token_audience"], first["token_email"]) == ("https://other.test", ACCOUNT)
        assert second["token_email"] == "a b" + "c" * 197
        assert third["token_kid"] == "k id"


class TestHeaders:
    """How the token comes."""

    @pytest.mark.parametrize("name", ACCEPTED)
    def test_a_token_that_lets_in(self, name: str, worker: Worker, issuer: OidcIssuer) -> None:
        """Again and again."""
        token = ACCEPTED[name](issuer)
        assert [outcome(send(worker, token)) for _ in range(3)] == [IN] * 3

    @pytest.mark.parametrize("scheme", ["bearer ", "BEARER ", "Bearer    "])
    def test_the_scheme_in_any_case(self, scheme: str, worker: Worker, issuer: OidcIssuer) -> None:
        """RFC 9110 §11.1."""
        assert outcome(send(worker, authorization=scheme + issuer.token())) == IN

    @pytest.mark.parametrize("value", ["", "Bearer", "Basic {}", "{}", "Bearer:{}", "Bearer {} {}", "Bearer {},"])
    def test_no_token(self, value: str, worker: Worker, issuer: OidcIssuer) -> None:
        """401 with a challenge that names no error, as there is nothing to be wrong."""
        response = send(worker, authorization=value.replace("{}", issuer.token()))
        assert outcome(response) == UNAUTHORIZED
        assert response.headers["www-authenticate"] == 'Bearer realm="outboxkit"'

    def test_no_header_at_all(self, worker: Worker) -> None:
        """The same."""
        response = send(worker)
        assert (outcome(response), response.headers["www-authenticate"]) == (UNAUTHORIZED, 'Bearer realm="outboxkit"')

    def test_several_tokens_are_none(self, worker: Worker, issuer: OidcIssuer) -> None:
        """Whichever a proxy has looked at: two sound ones let nobody in either, nor a sound one beside an empty one."""
        token = issuer.token()
        assert outcome(send(worker, token, token)) == UNAUTHORIZED
        assert outcome(send(worker, token, authorization="")) == UNAUTHORIZED
        assert outcome(send(worker, issuer.token(aud="x"), token)) == UNAUTHORIZED
        assert outcome(send(worker, token)) == IN

    @pytest.mark.parametrize(
        "header", ["x_serverless_authorization", "proxy_authorization", "x_forwarded_authorization"]
    )
    def test_a_token_elsewhere(self, header: str, worker: Worker, issuer: OidcIssuer) -> None:
        """Only Authorization counts: what Cloud Run's IAM has looked at is IAM's."""
        assert outcome(send(worker, **{header: f"Bearer {issuer.token()}"})) == UNAUTHORIZED

    def test_cloud_tasks_headers_prove_nothing(self, worker: Worker) -> None:
        """Anybody can send them."""
        response = send(worker, x_cloudtasks_queuename="default", x_cloudtasks_taskname="t")
        assert outcome(response) == UNAUTHORIZED

    def test_the_order_of_the_checks(self, worker: Worker, issuer: OidcIssuer) -> None:
        """Credentials, then the media type, then the body."""

        def post(media_type: str, **headers: str) -> tuple[int, str]:
            lines = {"content-type": media_type, **headers}
            return outcome(worker.client.post("/process-job", content=b"{", headers=lines))

        sound = {"authorization": f"Bearer {issuer.token()}"}
        assert post("text/plain") == UNAUTHORIZED
        assert post("text/plain", **sound) == (415, "unsupported-media-type")
        assert post("application/json", **sound) == (400, "malformed-request")


def test_a_token_that_was_valid_is_forgotten_when_it_expires(
    worker: Worker, issuer: OidcIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was looked at once is not looked at again, and still ends with the leeway after its expiry."""
    monkeypatch.setattr("outboxkit_worker.tokens.LEEWAY", 1.0)
    token = issuer.token(exp=int(time.time()) + 1)
    assert outcome(send(worker, token)) == IN
    until(lambda: outcome(send(worker, token)) == UNAUTHORIZED, what="the token to expire", within=20)
