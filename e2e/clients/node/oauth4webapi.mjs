// oauth4webapi: the strictest client there is; it checks every answer against
// the RFC that it follows.
import * as oauth from 'oauth4webapi'
import { comesBack, open, result, settings } from './login.mjs'

const issuer = new URL(settings.issuer)
const client = { client_id: settings.client }
const authentication = oauth.ClientSecretBasic(settings.secret)

// OpenID Connect Discovery and RFC 8414 say the same.
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oidc' }))
const alias = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2' }))
if (JSON.stringify(as) !== JSON.stringify(alias)) throw new Error('the two discovery documents differ')

const verifier = oauth.generateRandomCodeVerifier()
const state = oauth.generateRandomState()
const nonce = oauth.generateRandomNonce()
const authorize = new URL(as.authorization_endpoint)
authorize.search = new URLSearchParams({
  client_id: client.client_id,
  redirect_uri: settings.redirect,
  response_type: 'code',
  scope: settings.scope,
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  code_challenge_method: 'S256',
  state,
  nonce,
})
const back = comesBack(settings.redirect)
open(authorize)

// It demands iss in the answer, for the metadata promises it (RFC 9207).
const answer = oauth.validateAuthResponse(as, client, await back, state)
const response = await oauth.authorizationCodeGrantRequest(as, client, authentication, answer, settings.redirect, verifier)
const tokens = await oauth.processAuthorizationCodeResponse(as, client, response, { expectedNonce: nonce, requireIdToken: true })
await oauth.validateApplicationLevelSignature(as, response)
const claims = oauth.getValidatedIdTokenClaims(tokens)

// RFC 9068, as a resource server reads it.
const request = new Request(settings.audience, { headers: { authorization: `Bearer ${tokens.access_token}` } })
const access = await oauth.validateJwtAccessToken(as, request, settings.audience)

const userinfo = await oauth.userInfoRequest(as, client, tokens.access_token)
const person = await oauth.processUserInfoResponse(as, client, claims.sub, userinfo)

const again = await oauth.refreshTokenGrantRequest(as, client, authentication, tokens.refresh_token)
const refreshed = await oauth.processRefreshTokenResponse(as, client, again)

const asked = await oauth.introspectionRequest(as, client, authentication, refreshed.access_token)
const alive = await oauth.processIntrospectionResponse(as, client, asked)
const opened = await fetch(settings.api, { headers: { authorization: `Bearer ${refreshed.access_token}` } })
await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, authentication, refreshed.refresh_token))
const askedAgain = await oauth.introspectionRequest(as, client, authentication, refreshed.access_token)
const dead = await oauth.processIntrospectionResponse(as, client, askedAgain)

result({
  subject: access.sub,
  login: person.preferred_username,
  access: tokens.access_token,
  refreshed: refreshed.access_token,
  opened: opened.status,
  alive: alive.active,
  dead: dead.active,
})
