package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/token/tokentest"
)

func TestScopesPerRoute(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, reader := s.Robot(t, "reader", "read:orders")
	_, writer := s.Robot(t, "writer", "write:orders")
	_, profiler := s.Robot(t, "profiler", "read:profile")
	for _, row := range []struct {
		method, path, token string
		status              int
		scope               string // named by a 403
	}{
		{"GET", "/orders", reader, 200, ""},
		{"GET", "/orders?limit=3", reader, 200, ""},
		{"GET", "/orders/7", reader, 200, ""},
		{"POST", "/orders", writer, 200, ""},
		{"GET", "/profile", profiler, 200, ""},
		{"POST", "/orders", reader, 403, "write:orders"},
		{"GET", "/orders", writer, 403, "read:orders"},
		{"GET", "/open", "", 200, ""},
		{"GET", "/open/below", "", 200, ""},
		{"GET", "/unknown", reader, 404, ""},
		{"GET", "/orders/", reader, 404, ""},
		{"GET", "/orders/7/lines", reader, 404, ""},
		{"GET", "/Orders", reader, 404, ""},
		{"PUT", "/orders", reader, 404, ""},
		{"OPTIONS", "/orders", reader, 404, ""},
		{"GET", "/unknown", "", 404, ""},
	} {
		before := s.Orders.Requests.Load() + s.Profile.Requests.Load()
		answer := s.Call(t, row.method, row.path, row.token)
		arrived := s.Orders.Requests.Load() + s.Profile.Requests.Load() - before
		if answer.Status != row.status || (arrived == 1) != (row.status == 200) {
			t.Errorf("%s %s: %s, %d requests arrived; want %d", row.method, row.path, answer, arrived, row.status)
		}
		if row.status == 403 && answer.Challenge() != `Bearer error="insufficient_scope", scope="`+row.scope+`"` {
			t.Errorf("%s %s: the challenge is %q", row.method, row.path, answer.Challenge())
		}
	}
}

// What is no good token gets 401 and the challenge of RFC 6750 §3; nothing of
// it arrives at a service.
func TestScopesPerRouteRefuseTokens(t *testing.T) {
	var foreign *harness.Foreign
	s := harness.Start(t, harness.Options{Configure: func(s *harness.System, c harness.Config) {
		foreign = s.NewForeign(t)
		c.Set("authz.skew", "1s")
		c.Set("authz.issuers", append([]any{s.OwnIssuer(c)}, foreign.Trusted()))
		// The route /foreign takes the foreign issuer's tokens, all others do not.
		c.AddRoute(harness.Route{"id": "foreign", "path": "/foreign", "service": "orders", "audience": harness.OrdersAPI, "issuers": []string{harness.ForeignURL}, "scopes": []string{"read:orders"}})
	}})
	_, access := s.Robot(t, "robot", "read:orders", "read:profile")
	_, profiler := s.Robot(t, "profiler", "read:profile")
	s.Expect(t, 200, "GET", "/orders", access)
	signed := func(key *tokentest.Key, header, claims map[string]any) string {
		return key.Sign(tokentest.With(foreign.Header(), header), tokentest.With(foreign.Claims(), claims))
	}
	good := signed(foreign.Key, nil, nil)
	s.Expect(t, 200, "GET", "/foreign", good) // so what is refused below is refused for its one fault
	head, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	none := tokentest.Encode([]byte(`{"alg":"none","typ":"at+jwt"}`))
	stranger := tokentest.NewKey("ES256")
	past := time.Now().Add(-time.Minute)
	for name, row := range map[string]struct{ path, token string }{
		"wrong audience":                {"/orders", profiler},
		"wrong issuer":                  {"/orders", good},
		"own token, foreign route":      {"/foreign", access},
		"expired":                       {"/foreign", signed(foreign.Key, nil, map[string]any{"iat": past.Add(-time.Minute).Unix(), "exp": past.Unix()})},
		"issued in the future":          {"/foreign", signed(foreign.Key, nil, map[string]any{"iat": time.Now().Add(time.Minute).Unix()})},
		"not valid yet":                 {"/foreign", signed(foreign.Key, nil, map[string]any{"nbf": time.Now().Add(time.Minute).Unix()})},
		"lives for a day":               {"/foreign", signed(foreign.Key, nil, map[string]any{"exp": time.Now().Add(24 * time.Hour).Unix()})},
		"forged: another key":           {"/foreign", signed(stranger.WithID(foreign.Key.ID()), nil, nil)},
		"forged: an unknown key":        {"/foreign", signed(stranger, map[string]any{"kid": stranger.ID()}, nil)},
		"forged: its own key inside":    {"/foreign", signed(stranger, map[string]any{"kid": stranger.ID(), "jwk": stranger.JWK()}, nil)},
		"forged: another's claims":      {"/foreign", head + "." + tokentest.Encode([]byte(`{"iss":"`+harness.ForeignURL+`","scope":"write:orders"}`)) + "." + signature},
		"forged: no signature":          {"/foreign", head + "." + payload + "."},
		"forged: alg none":              {"/foreign", none + "." + payload + "."},
		"an ID token":                   {"/foreign", signed(foreign.Key, map[string]any{"typ": "JWT"}, nil)},
		"no type":                       {"/foreign", signed(foreign.Key, map[string]any{"typ": nil}, nil)},
		"an unknown critical extension": {"/foreign", signed(foreign.Key, map[string]any{"crit": []string{"exp"}, "exp": 1}, nil)},
		"no audience":                   {"/foreign", signed(foreign.Key, nil, map[string]any{"aud": nil})},
		"almost the audience":           {"/foreign", signed(foreign.Key, nil, map[string]any{"aud": harness.OrdersAPI + "/"})},
		"no subject":                    {"/foreign", signed(foreign.Key, nil, map[string]any{"sub": nil})},
		"no client":                     {"/foreign", signed(foreign.Key, nil, map[string]any{"client_id": nil})},
		"no expiry":                     {"/foreign", signed(foreign.Key, nil, map[string]any{"exp": nil})},
		"no token at all":               {"/foreign", "hello"},
	} {
		before := s.Orders.Requests.Load()
		answer := s.Call(t, "GET", row.path, row.token)
		if answer.Status != 401 || !strings.HasPrefix(answer.Challenge(), "Bearer ") || !strings.Contains(answer.Challenge(), `error="invalid_token"`) {
			t.Errorf("%s: %s", name, answer)
		}
		if s.Orders.Requests.Load() != before {
			t.Errorf("%s: the request arrived", name)
		}
	}
	answer := s.Call(t, "GET", "/orders", "")
	if answer.Status != 401 || !strings.HasPrefix(answer.Challenge(), "Bearer") || strings.Contains(answer.Challenge(), "error") {
		t.Errorf("without a token: %s", answer) // RFC 6750 §3.1: no error code
	}
	problem := answer.JSON(t) // RFC 9457
	if answer.Header.Get("Content-Type") != "application/problem+json" || problem["status"] != 401.0 || problem["request_id"] == "" {
		t.Errorf("the body is %s, %v", answer.Header.Get("Content-Type"), problem)
	}
	for name, headers := range map[string][]string{
		"two credentials": {"Bearer " + access, "Bearer " + access},
		"basic":           {"Basic cm9ib3Q6eA=="},
		"bare":            {access},
		"in the query":    nil,
	} {
		request, err := http.NewRequest("GET", s.URL("/orders?access_token="+access), nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header["Authorization"] = headers
		if answer := s.Send(t, request); answer.Status != 400 && answer.Status != 401 {
			t.Errorf("%s: %s", name, answer)
		}
	}
}

// An expired token of the site's own issuer, which was good a moment ago.
func TestScopesPerRouteExpiry(t *testing.T) {
	s := harness.Start(t, harness.Options{Configure: func(_ *harness.System, c harness.Config) {
		c.Set("issuer.access_token_lifetime", "2s")
		c.Set("authz.skew", "1s")
	}})
	_, access := s.Robot(t, "robot", "read:orders")
	s.Expect(t, 200, "GET", "/orders", access)
	harness.Eventually(t, 5*time.Second, s.Says(401, "GET", "/orders", access))
}

func TestScopesPerRouteGRPC(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, reader := s.Robot(t, "reader", "read:orders")
	conn, err := grpc.NewClient("dns:///"+s.Gateway(), grpc.WithTransportCredentials(credentials.NewTLS(s.TLS(t))), grpc.WithDisableRetry(), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	health := grpc_health_v1.NewHealthClient(conn)
	call := func(token string, do func(context.Context) error) codes.Code {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
		}
		return status.Code(do(ctx))
	}
	check := func(ctx context.Context) error {
		_, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		return err
	}
	list := func(ctx context.Context) error {
		_, err := health.List(ctx, &grpc_health_v1.HealthListRequest{})
		return err
	}
	watch := func(ctx context.Context) error {
		stream, err := health.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	for _, row := range []struct {
		name, token string
		call        func(context.Context) error
		want        codes.Code
	}{
		{"the right scope", reader, check, codes.OK},
		{"no token", "", check, codes.Unauthenticated},
		{"a forged token", reader[:len(reader)-8] + "AAAAAAAA", check, codes.Unauthenticated},
		{"the wrong scope", reader, list, codes.PermissionDenied},
		{"no such route", reader, watch, codes.Unimplemented},
	} {
		if got := call(row.token, row.call); got != row.want {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
	if seen := s.GRPC.Last(); seen.Header["x-gatehouse-subject"] == nil || seen.Has("authorization") {
		t.Errorf("the gRPC service saw %v", seen.Header)
	}
}
