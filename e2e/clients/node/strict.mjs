// openid-client at its strictest: the request is pushed (RFC 9126), the client
// proves itself by a key (RFC 7523), the tokens are bound to another (RFC 9449).
import * as oidc from 'openid-client'
import { comesBack, open, refused, result, settings } from './login.mjs'

const key = await crypto.subtle.importKey('jwk', settings.key, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
const config = await oidc.discovery(
  new URL(settings.issuer),
  settings.client,
  undefined,
  oidc.PrivateKeyJwt({ key, kid: settings.key.kid }, { [oidc.modifyAssertion]: (_, claims) => (claims.aud = settings.issuer) }),
)
const DPoP = oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair('ES256'))
const verifier = oidc.randomPKCECodeVerifier()
const state = oidc.randomState()
const parameters = {
  redirect_uri: settings.redirect,
  scope: settings.scope,
  code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
  code_challenge_method: 'S256',
  state,
}
const back = comesBack(settings.redirect)
open(await oidc.buildAuthorizationUrlWithPAR(config, parameters, { DPoP }))
const address = await back
const checks = { pkceCodeVerifier: verifier, expectedState: state, idTokenExpected: true }

const tokens = await oidc.authorizationCodeGrant(config, address, checks, undefined, { DPoP })
const person = await oidc.fetchUserInfo(config, tokens.access_token, tokens.claims().sub, { DPoP })
const opened = await oidc.fetchProtectedResource(config, tokens.access_token, new URL(settings.api), 'GET', undefined, undefined, { DPoP })
const refreshed = await oidc.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })
const stolen = await fetch(settings.api, { headers: { authorization: `Bearer ${tokens.access_token}` } })
await refused('invalid_grant', oidc.authorizationCodeGrant(config, address, checks, undefined, { DPoP }))

result({
  login: person.preferred_username,
  type: tokens.token_type,
  access: tokens.access_token,
  refreshed: refreshed.access_token,
  opened: opened.status,
  stolen: stolen.status,
})
