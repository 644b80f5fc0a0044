package workload

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const theControlPlane = "spiffe://gatehouse.local/controlplane"

func aToken(roots ...*x509.Certificate) JoinToken {
	t := JoinToken{ID: "spiffe://gatehouse.local/service/orders", Secret: "s3cr3t", ExpiresAt: time.Unix(1800000000, 0).UTC()}
	for _, c := range roots {
		t.Roots = append(t.Roots, FingerprintOf(c))
	}
	return t
}

// certificates of a CA with two levels, for a server.
type hierarchy struct{ root, between, leaf *x509.Certificate }

func newHierarchy(t *testing.T, id string) hierarchy {
	t.Helper()
	make := func(parent *x509.Certificate, parentKey *ecdsa.PrivateKey, ca bool, id string) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
			IsCA: ca, BasicConstraintsValid: true,
		}
		if ca {
			template.KeyUsage = x509.KeyUsageCertSign
		} else {
			uri, err := url.Parse(id)
			if err != nil {
				t.Fatal(err)
			}
			template.URIs, template.ExtKeyUsage = []*url.URL{uri}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}
		if parent == nil {
			parent, parentKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	root, rootKey := make(nil, nil, true, "")
	between, betweenKey := make(root, rootKey, true, "")
	leaf, _ := make(between, betweenKey, false, id)
	return hierarchy{root, between, leaf}
}

func TestJoinTokenIsReadBack(t *testing.T) {
	token := aToken(newHierarchy(t, theControlPlane).root, newHierarchy(t, theControlPlane).root)
	got, err := ParseJoinToken("\n " + token.Encode() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(token, got); diff != "" {
		t.Error(diff)
	}
}

// However it is printed, the secret is not in it.
func TestJoinTokenHidesItsSecret(t *testing.T) {
	token := aToken()
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "token", token, "pointer", &token)
	for _, text := range []string{fmt.Sprint(token), fmt.Sprintf("%v %+v %#v %s", token, token, token, &token), log.String()} {
		if strings.Contains(text, token.Secret) {
			t.Errorf("%s", text)
		}
	}
}

func TestJoinTokensThatAreNone(t *testing.T) {
	root := newHierarchy(t, theControlPlane).root
	good := aToken(root).Encode()
	payload := func(text string) string { return joinPrefix + base64.RawURLEncoding.EncodeToString([]byte(text)) }
	plain, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(good, joinPrefix))
	if err != nil {
		t.Fatal(err)
	}
	with := func(old, new string) string { return payload(strings.Replace(string(plain), old, new, 1)) }
	for name, text := range map[string]string{
		"empty":                 "",
		"another format":        "ghj2." + strings.TrimPrefix(good, joinPrefix),
		"cut short":             good[:len(good)-4],
		"no base64url":          joinPrefix + "***",
		"padded":                good + "==",
		"no JSON":               payload("hello"),
		"followed by something": payload(string(plain) + "{}"),
		"an unknown member":     with(`"id"`, `"x":1,"id"`),
		"without an id":         with(`"id":"spiffe://gatehouse.local/service/orders"`, `"id":""`),
		"without a secret":      with(`"secret":"s3cr3t"`, `"secret":""`),
		"without roots":         aToken().Encode(),
		"too many roots":        aToken(root, root, root, root, root).Encode(),
		"a short fingerprint":   with(`"roots":["`, `"roots":["AAAA","`),
		"without an end":        with(`"expires":1800000000`, `"expires":0`),
		"too long":              payload(`{"id":"` + strings.Repeat("x", maxJoinToken) + `"}`),
	} {
		if _, err := ParseJoinToken(text); err == nil {
			t.Errorf("%s: it was taken", name)
		} else if strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: the error shows the secret", name)
		}
	}
}

// Who enrols takes nobody for the CA but the one that made the token.
func TestVerifyServer(t *testing.T) {
	ours, theirs, wrong := newHierarchy(t, theControlPlane), newHierarchy(t, theControlPlane), newHierarchy(t, "spiffe://gatehouse.local/service/orders")
	token := aToken(ours.root)
	chain := func(h hierarchy) []*x509.Certificate { return []*x509.Certificate{h.leaf, h.between, h.root} }
	if err := token.VerifyServer(chain(ours), theControlPlane, time.Now()); err != nil {
		t.Error(err)
	}
	for name, row := range map[string]struct {
		token     JoinToken
		presented []*x509.Certificate
		now       time.Time
	}{
		"nothing":                              {token, nil, time.Now()},
		"a root with another fingerprint":      {token, chain(theirs), time.Now()},
		"no root":                              {token, chain(ours)[:2], time.Now()},
		"our root beside a chain of another's": {token, []*x509.Certificate{theirs.leaf, theirs.between, theirs.root, ours.root}, time.Now()},
		"our root as the leaf":                 {token, []*x509.Certificate{ours.root, ours.root}, time.Now()},
		"another of our workloads":             {aToken(wrong.root), chain(wrong), time.Now()},
		"a certificate that ended":             {token, chain(ours), time.Now().Add(2 * time.Hour)},
		"a token without roots":                {aToken(), chain(ours), time.Now()},
	} {
		if err := row.token.VerifyServer(row.presented, theControlPlane, row.now); err == nil {
			t.Errorf("%s: it was taken for the CA", name)
		}
	}
}

func TestProof(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	_, stranger, _ := ed25519.GenerateKey(rand.Reader)
	certificate, csr := []byte("certificate"), []byte("csr")
	first, err := Prove(p256, certificate, csr)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Prove(edwards, certificate, csr)
	if err != nil {
		t.Fatal(err)
	}
	if CheckProof(p256.Public(), certificate, csr, first) != nil || CheckProof(edwards.Public(), certificate, csr, second) != nil {
		t.Error("an honest proof is refused")
	}
	for name, err := range map[string]error{
		"of another key":             CheckProof(stranger.Public(), certificate, csr, second),
		"for another request":        CheckProof(edwards.Public(), certificate, []byte("csr2"), second),
		"for another certificate":    CheckProof(edwards.Public(), []byte("certificate2"), csr, second),
		"with the two swapped":       CheckProof(edwards.Public(), csr, certificate, second),
		"that is empty":              CheckProof(p256.Public(), certificate, csr, nil),
		"of a kind of key not known": CheckProof("key", certificate, csr, second),
	} {
		if err == nil {
			t.Errorf("a proof %s is taken", name)
		}
	}
}
