// A device without a browser, by openid-client (RFC 8628). Its tokens are bound
// to a key that it holds (RFC 9449).
import * as oidc from 'openid-client'
import { open, result, settings } from './login.mjs'

const config = await oidc.discovery(new URL(settings.issuer), settings.client, undefined, oidc.None())
const DPoP = oidc.getDPoPHandle(config, await oidc.randomDPoPKeyPair('ES256'))
const device = await oidc.initiateDeviceAuthorization(config, { scope: settings.scope })
open(device.verification_uri_complete)
const tokens = await oidc.pollDeviceAuthorizationGrant(config, device, undefined, { DPoP })
const opened = await oidc.fetchProtectedResource(config, tokens.access_token, new URL(settings.api), 'GET', undefined, undefined, { DPoP })
const refreshed = await oidc.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })
const again = await oidc.fetchProtectedResource(config, refreshed.access_token, new URL(settings.api), 'GET', undefined, undefined, { DPoP })
const stolen = await fetch(settings.api, { headers: { authorization: `Bearer ${refreshed.access_token}` } })

result({
  code: device.user_code,
  type: tokens.token_type,
  opened: opened.status,
  again: again.status,
  stolen: stolen.status,
})
