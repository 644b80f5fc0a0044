// openid-client: what most Node services log people in with.
import * as oidc from 'openid-client'
import { comesBack, open, refused, result, settings } from './login.mjs'

const config = await oidc.discovery(new URL(settings.issuer), settings.client, settings.secret)
const verifier = oidc.randomPKCECodeVerifier()
const state = oidc.randomState()
const nonce = oidc.randomNonce()

const back = comesBack(settings.redirect)
open(
  oidc.buildAuthorizationUrl(config, {
    redirect_uri: settings.redirect,
    scope: settings.scope,
    code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
    nonce,
  }),
)
const address = await back
const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, idTokenExpected: true }
const tokens = await oidc.authorizationCodeGrant(config, address, checks)
const claims = tokens.claims()
const person = await oidc.fetchUserInfo(config, tokens.access_token, claims.sub)
const refreshed = await oidc.refreshTokenGrant(config, tokens.refresh_token)
const alive = await oidc.tokenIntrospection(config, refreshed.access_token)
const opened = await fetch(settings.api, { headers: { authorization: `Bearer ${refreshed.access_token}` } })
await oidc.tokenRevocation(config, refreshed.refresh_token)
const dead = await oidc.tokenIntrospection(config, refreshed.access_token)
await refused('invalid_grant', oidc.refreshTokenGrant(config, refreshed.refresh_token))
await refused('invalid_grant', oidc.authorizationCodeGrant(config, address, checks))

result({
  subject: claims.sub,
  login: person.preferred_username,
  access: tokens.access_token,
  refreshed: refreshed.access_token,
  opened: opened.status,
  alive: alive.active,
  dead: dead.active,
  logout: oidc.buildEndSessionUrl(config, { id_token_hint: tokens.id_token }).href,
})
