"""Authlib: what most Python services log people in with.

Says which address a browser has to open (OPEN …), waits until it comes back,
and says what it found out (RESULT …).
"""

import http.server
import json
import sys
from urllib.parse import urlsplit

from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.jwk import KeySet


def comes_back(redirect):
    """The address that the browser is sent to."""
    at, seen = urlsplit(redirect), []

    class Callback(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if urlsplit(self.path).path == at.path:
                seen.append(f"{at.scheme}://{at.netloc}{self.path}")
            self.send_response(200 if seen else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer((at.hostname, at.port), Callback) as server:
        while not seen:
            server.handle_request()
    return seen[0]


def main():
    settings = json.loads(sys.argv[1])
    session = OAuth2Session(
        settings["client"],
        settings["secret"],
        scope=settings["scope"],
        redirect_uri=settings["redirect"],
        code_challenge_method="S256",
        token_endpoint_auth_method="client_secret_basic",
    )
    discovery = session.get(settings["issuer"] + "/.well-known/openid-configuration", withhold_token=True).json()
    verifier, nonce = generate_token(48), generate_token(20)
    address, state = session.create_authorization_url(
        discovery["authorization_endpoint"], code_verifier=verifier, nonce=nonce
    )
    print("OPEN", address, flush=True)
    tokens = session.fetch_token(
        discovery["token_endpoint"],
        authorization_response=comes_back(settings["redirect"]),
        state=state,
        code_verifier=verifier,
    )
    keys = KeySet.import_key_set(session.get(discovery["jwks_uri"], withhold_token=True).json())
    identity = jwt.decode(tokens["id_token"], keys, algorithms=discovery["id_token_signing_alg_values_supported"])
    jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": discovery["issuer"]},
        aud={"essential": True, "value": settings["client"]},
        nonce={"essential": True, "value": nonce},
        exp={"essential": True},
    ).validate(identity.claims)
    person = session.get(discovery["userinfo_endpoint"]).json()
    access = tokens["access_token"]
    refreshed = session.refresh_token(discovery["token_endpoint"], refresh_token=tokens["refresh_token"])
    alive = session.introspect_token(discovery["introspection_endpoint"], token=refreshed["access_token"]).json()
    opened = session.get(settings["api"]).status_code
    session.revoke_token(discovery["revocation_endpoint"], token=refreshed["refresh_token"])
    dead = session.introspect_token(discovery["introspection_endpoint"], token=refreshed["access_token"]).json()
    result = {
        "subject": identity.claims["sub"],
        "login": person["preferred_username"],
        "access": access,
        "refreshed": refreshed["access_token"],
        "opened": opened,
        "alive": alive["active"],
        "dead": dead["active"],
    }
    print("RESULT", json.dumps(result), flush=True)


main()
