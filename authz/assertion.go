package authz

import (
	"errors"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/token"
)

// assertions makes what services are told in signed form, and verifies what
// sidecars were given.
type assertions struct {
	issuer      string // SPIFFE id of the authorizers
	now         func() time.Time
	eachRequest bool
	signing     *signing
	verifier    *token.AssertionVerifier
	verified    *recent[string, *token.Assertion]
	made        *recent[madeOf, madeAssertion]
}

// madeOf is all that an assertion depends on beside the time.
type madeOf struct {
	origin              [32]byte // the token's or the former assertion's hash
	audience, requester string
	scopes              string
}

type madeAssertion struct {
	text  string
	key   *token.AssertionKey
	renew time.Time
}

// madeOverhead is roughly what keeping an assertion costs beside its text.
const madeOverhead = 256

func newAssertions(config Config, signing *signing, now func() time.Time) (*assertions, error) {
	issuer := envoy.AuthzIdentity(trustDomain(config.LocalIdentity))
	verifier, err := token.NewAssertionVerifier(token.AssertionConfig{Issuer: issuer, Skew: config.Skew, Now: now, Keys: signing.keys})
	if err != nil {
		return nil, err
	}
	return &assertions{
		issuer: issuer, now: now, eachRequest: config.Assertions.EachRequest, signing: signing, verifier: verifier,
		verified: newRecent[string, *token.Assertion](config.Assertions.CacheBytes / 2),
		made:     newRecent[madeOf, madeAssertion](config.Assertions.CacheBytes / 2),
	}, nil
}

// verify accepts an assertion for the rule's service. Its signature is checked
// once; key, audience and time are each time.
func (a *assertions) verify(r *request, rule *rule) (*token.Assertion, error) {
	text, err := assertionOf(r, rule)
	if err != nil {
		return nil, err
	}
	if known, found := a.verified.get(text); found && a.verifier.Recheck(known, rule.audience) == nil {
		return known, nil
	}
	verified, err := a.verifier.Verify(text, rule.audience)
	if err != nil {
		return nil, refusal(err)
	}
	text = strings.Clone(text) // not the whole request that it is a part of
	a.verified.put(text, verified, int64(len(text))+verified.Size(), a.now())
	return verified, nil
}

func assertionOf(r *request, rule *rule) (string, error) {
	switch {
	case len(r.assertion) == 0 && rule.acting != "":
		return "", deny(ReasonNoCredential, "the call carries no assertion: %s may call others on behalf of somebody alone, with the assertion that it was given", rule.acting)
	case len(r.assertion) == 0:
		return "", deny(ReasonNoCredential, "the request has no %s header", envoy.AssertionHeader)
	case len(r.assertion) > 1 || strings.Contains(r.assertion[0], ","):
		return "", deny(ReasonManyCredentials, "the request has several %s headers", envoy.AssertionHeader)
	}
	return r.assertion[0], nil
}

// make is the assertion for the rule's target; empty where it names none.
func (a *assertions) make(d *decision) (string, error) {
	if d.rule.assertionFor == "" {
		return "", nil
	}
	content, err := a.content(d)
	if err != nil {
		return "", err
	}
	key := a.signing.active.Load()
	if key == nil {
		return "", a.signing.lack()
	}
	if a.eachRequest {
		text, _, err := sign(key, d.claims, content)
		return text, err
	}
	of := madeOf{origin: d.claims.Hash(), audience: content.Audience, requester: content.Requester, scopes: strings.Join(content.Scopes, " ")}
	if made, found := a.made.get(of); found && made.key == key && content.IssuedAt.Before(made.renew) {
		return made.text, nil
	}
	text, ends, err := sign(key, d.claims, content)
	if err != nil {
		return "", err
	}
	made := madeAssertion{text: text, key: key, renew: renewal(content.IssuedAt, ends)}
	a.made.put(of, made, int64(len(text))+madeOverhead, content.IssuedAt)
	return text, nil
}

// renewal is half an assertion's life after it was issued; one that ends with
// its token gains nothing from being made again.
func renewal(issued, ends time.Time) time.Time {
	if life := ends.Sub(issued.Truncate(time.Second)); life >= token.MaxAssertionLife {
		return issued.Add(life / 2)
	}
	return ends
}

func (a *assertions) content(d *decision) (token.AssertionContent, error) {
	content := token.AssertionContent{
		Issuer: a.issuer, Audience: d.rule.assertionFor, Transaction: d.requestID(), Requester: d.caller,
		Scopes: d.claims.Scopes(), IssuedAt: a.now(),
	}
	if d.rule.acting == "" {
		return content, nil
	}
	former := d.assertion.Actors()
	if len(former) >= token.MaxActors {
		return content, deny(ReasonChainTooLong, "%d services already act in this call", len(former))
	}
	content.Transaction, content.Requester = d.assertion.Transaction(), d.rule.acting
	content.Actors = append([]string{d.rule.acting}, former...)
	var err error
	content.Scopes, err = narrowed(d.request, d.claims.Scopes())
	return content, err
}

// narrowed are the scopes that the caller wants to pass on: some of its own.
func narrowed(r *request, own []string) ([]string, error) {
	switch {
	case len(r.narrow) == 0:
		return own, nil
	case len(r.narrow) > 1:
		return nil, deny(ReasonWiderScope, "the call has %d %s headers", len(r.narrow), envoy.NarrowHeader)
	}
	scopes := strings.Fields(r.narrow[0])
	for i, scope := range scopes {
		if !slices.Contains(own, scope) {
			return nil, deny(ReasonWiderScope, "%s asks for %.200q, which the assertion does not have", envoy.NarrowHeader, scope)
		}
		if slices.Contains(scopes[:i], scope) {
			return nil, deny(ReasonWiderScope, "%s names %.200q twice", envoy.NarrowHeader, scope)
		}
	}
	return scopes, nil
}

func sign(key *token.AssertionKey, claims *token.Claims, content token.AssertionContent) (string, time.Time, error) {
	text, ends, err := key.Sign(claims, content)
	switch {
	case errors.Is(err, token.ErrNoLife):
		err = deny(ReasonExpiredToken, "making an assertion: %w", err)
	case errors.Is(err, token.ErrTooLong):
		err = deny(ReasonClaimsTooLong, "making an assertion: %w", err)
	}
	return text, ends, err
}
