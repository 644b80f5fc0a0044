// Package token decides whether a string is an access token that an issuer
// signed for use here, and holds what the token then says.
//
// The data's way: a compact string goes through Parse, which reads it once and
// strictly and yields an Unverified; a Verifier, one per issuer, checks its
// signature with a Key of a KeySet and then its claims, and yields Claims. A
// Remote fetches and keeps an issuer's KeySet; a Cache remembers Claims by the
// token's hash. Only a Verifier makes Claims that allow anything, and only such
// Claims enter a Cache.
//
// Inside the gate an Assertion takes the token's place: an AssertionKey signs
// what an authorizer vouches for towards one service, and an AssertionVerifier,
// built of the same parts, takes nothing else. Neither kind passes for the other.
//
// What is taken is narrower than what the specifications allow: the compact
// form alone, asymmetric signatures alone, one spelling of everything. What two
// readers could read in two ways is refused, whoever signed it.
//
// Beside access tokens it checks what proves who uses them: VerifyProof a DPoP
// proof, ClientAssertion a client's own signature at its issuer. What may be
// used once is remembered in Replays; Nonces are given out without a memory.
//
// Governed by RFC 7515 (JWS), RFC 7517 (JWK), RFC 7518 (algorithms), RFC 7519
// (JWT), RFC 7638 (thumbprints), RFC 8037 (Ed25519), RFC 8259 and RFC 7493
// (JSON), RFC 8725 (best practice), RFC 9068 (access tokens), RFC 7523 (client
// assertions), RFC 7800 (cnf), RFC 8705 (certificates) and RFC 9449 (DPoP).
package token
