package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/issuer/admin"
	"gatehouse.dev/gatehouse/issuer/journal"
	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// walkSite is a site where everything is configured that can happen.
type walkSite struct {
	*site
	voucher *voucherOf
	// holder has the certificate of the clients named and pinned.
	holder *party
	// entered has the methods of the administration that were called, and
	// whether each call was entered.
	entered map[string]bool
}

func newWalkSite(t *testing.T) *walkSite {
	t.Helper()
	s := &walkSite{entered: map[string]bool{}, voucher: &voucherOf{key: tokentest.NewKey("ES256")}}
	root := newParty(t, nil, authority)
	s.holder = newParty(t, root, same)
	dir := t.TempDir()
	authorities, jwks := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "jwks.json")
	if err := errors.Join(os.WriteFile(authorities, []byte(root.pem()), 0o600), os.WriteFile(jwks, tokentest.JWKS(s.voucher.key), 0o600)); err != nil {
		t.Fatal(err)
	}
	s.site = exchangeSite(t, registering, func(c *Config) {
		c.MTLSURL, c.ClientAuthorities = "https://mtls.example", conf.Path(authorities)
		c.AssertionIssuers = []AssertionIssuer{{Issuer: buildServer, JWKSFile: conf.Path(jwks), MaxLifetime: 5 * time.Minute, Subjects: map[string]string{"repo:shop:main": "deployer"}}}
	})
	s.voucher.s = s.site
	s.register(store.Client{ID: "tv", Type: store.Native, GrantTypes: []string{grantDeviceCode, grantRefreshToken}, Scopes: []string{"read:orders", "write:orders"}})
	s.addClient(store.Client{ID: "deployer", GrantTypes: []string{grantJWTBearer}, Scopes: []string{"read:orders"}})
	for id, proof := range map[string]store.ClientProof{
		"named":  {Method: methodTLS, Name: store.CertificateName{SubjectDN: "CN=robot,O=Example"}},
		"pinned": {Method: methodSelfSigned, Thumbprints: []string{token.CertificateThumbprint(s.holder.certificate)}},
	} {
		s.register(store.Client{ID: id, Type: store.Confidential, GrantTypes: []string{grantClientCredentials}, Scopes: []string{"read:orders"}, Proof: proof})
	}
	return s
}

// administration is the admin socket. What each call enters is noted.
func (s *walkSite) administration() adminv1.AdminClient {
	s.Helper()
	address := "unix:" + filepath.Join(s.TempDir(), "admin")
	listener, err := serve.Listen(address)
	if err != nil {
		s.Fatal(err)
	}
	server := admin.Serve(s.server.admin)
	go server.Serve(listener)
	s.Cleanup(server.Stop)
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, options ...grpc.CallOption) error {
			before := len(s.all())
			err := call(ctx, method, request, reply, conn, options...)
			s.entered[method] = len(s.all()) > before
			return err
		}))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { conn.Close() })
	return adminv1.NewAdminClient(conn)
}

// all are all events.
func (s *walkSite) all() (all []store.Event) {
	s.Helper()
	for {
		after := uint64(0)
		if len(all) > 0 {
			after = all[len(all)-1].Sequence
		}
		found := s.events(store.EventQuery{After: after})
		if len(found) == 0 {
			return all
		}
		all = append(all, found...)
	}
}

// eventNames are the names of all events that the code can enter: the
// constants, the literals, a refusal for each endpoint, an anomaly for each
// kind.
func eventNames(t *testing.T) []string {
	t.Helper()
	names := map[string]bool{}
	for endpoint := range entered {
		names[endpoint+".refuse"] = true
	}
	for _, file := range sources(t, ".", "store", "journal", "admin", "login", "keys", "store/bolt") {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for i, name := range n.Names {
					kind := strings.HasPrefix(name.Name, "Kind") && file.Name.Name == "journal"
					if i < len(n.Values) && (kind || strings.HasPrefix(name.Name, "Event")) {
						if text, ok := literal(n.Values[i]); ok {
							names[map[bool]string{true: "anomaly."}[kind]+text] = true
						}
					}
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Name" {
					if text, ok := literal(n.Value); ok && strings.Contains(text, ".") {
						names[text] = true
					}
				}
			}
			return true
		})
	}
	return slices.Sorted(maps.Keys(names))
}

func literal(e ast.Expr) (string, bool) {
	basic, ok := e.(*ast.BasicLit)
	if !ok || basic.Kind != gotoken.STRING {
		return "", false
	}
	text, err := strconv.Unquote(basic.Value)
	return text, err == nil
}

func sources(t *testing.T, dirs ...string) (files []*ast.File) {
	t.Helper()
	for _, dir := range dirs {
		paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v", dir, err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(gotoken.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
	}
	return files
}

// Whatever can happen is entered with what, who, from where and the outcome,
// and neither the audit log nor the process's own has a secret in it. An event,
// a way to prove oneself, a grant or an administration that is new turns this
// red until walk makes it happen.
func TestEveryEventIsComplete(t *testing.T) {
	s := newWalkSite(t)
	mark := len(s.all())
	secrets := s.walk()
	events := s.all()[mark:]
	for _, e := range events {
		for what, missing := range incomplete(e) {
			if missing {
				t.Errorf("an event without %s: %+v", what, e)
			}
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if strings.Contains(string(text), secret) {
				t.Errorf("a secret is in event %s", text)
			}
		}
	}
	has := func(name, client, detail string) bool {
		return slices.ContainsFunc(events, func(e store.Event) bool {
			first, _, _ := strings.Cut(e.Detail, " ")
			return e.Name == name && (client == "" || e.Client == client) && (detail == "" || first != "" && strings.HasSuffix(detail, first))
		})
	}
	for _, name := range eventNames(t) {
		if !has(name, "", "") {
			t.Errorf("%s did not happen, or was not entered", name)
		}
	}
	metadata := s.request("GET", pathDiscovery, "").json(t)
	for _, method := range metadata["token_endpoint_auth_methods_supported"].([]any) {
		if client := proven[method.(string)]; client == "" || !has(store.EventToken, client, "") || !has("token.refuse", client, "") {
			t.Errorf("nobody proved to be who they are by %s, and nobody failed to: client %q", method, client)
		}
	}
	for _, grant := range metadata["grant_types_supported"].([]any) {
		if !has(store.EventToken, "", grant.(string)) {
			t.Errorf("no token of the grant %s was entered", grant)
		}
	}
	s.checkAdministration()
	for _, secret := range secrets {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log has a secret of %d characters", len(secret))
		}
	}
}

// checkAdministration wants every method that changes something, or takes the
// database away, to have been called and entered.
func (s *walkSite) checkAdministration() {
	s.Helper()
	names := []string{adminv1.Admin_Backup_FullMethodName}
	for _, m := range adminv1.Admin_ServiceDesc.Methods {
		if !slices.ContainsFunc([]string{"Get", "List", "Verify"}, func(reads string) bool { return strings.HasPrefix(m.MethodName, reads) }) {
			names = append(names, "/"+adminv1.Admin_ServiceDesc.ServiceName+"/"+m.MethodName)
		}
	}
	for _, name := range names {
		if !s.entered[name] {
			s.Errorf("%s was not called, or not entered", name)
		}
	}
}

// incomplete tells what an event lacks that it must have. Signing keys are the
// issuer's own, and so is how many events were only counted; who names no client
// is nobody.
func incomplete(e store.Event) map[string]bool {
	family, act, _ := strings.Cut(e.Name, ".")
	byIssuer := family == "key" || e.Name == journal.EventSuppressed || e.Name == journal.EventRepeated || e.Name == store.EventClientCreate || e.Name == store.EventUserCreate || e.Name == store.EventRegistration // the test's own, too
	stranger := family == "anomaly" || act == "refuse" || e.Name == journal.EventLogin && e.Result != store.Success
	return map[string]bool{
		"a place in the log": e.Sequence == 0,
		"a time":             e.At.IsZero(),
		"an outcome":         !slices.Contains([]string{store.Success, store.Failure, store.Throttled}, e.Result),
		"a reason":           e.Result == store.Failure && e.Reason == "" && e.Detail == "" && e.Name != journal.EventLogin,
		"anybody":            e.Actor == "" && e.Subject == "" && e.Client == "" && !byIssuer && !stranger,
		"from where":         e.Actor == "" && e.Address == "" && !byIssuer,
	}
}
