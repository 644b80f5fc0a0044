package issuer

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
)

// The issuer's paths. The gateway leads /oauth/** and the two well-known paths
// here, and nothing else.
const (
	pathDiscovery  = "/.well-known/openid-configuration"
	pathMetadata   = "/.well-known/oauth-authorization-server"
	pathAuthorize  = "/oauth/authorize"
	pathToken      = "/oauth/token"
	pathKeys       = "/oauth/keys"
	pathUserinfo   = "/oauth/userinfo"
	pathIntrospect = "/oauth/introspect"
	pathRevoke     = "/oauth/revoke"
	pathRegister   = "/oauth/register"
	pathDevice     = "/oauth/device_authorization"
	pathPush       = "/oauth/par"
)

// endpoint answers a machine; an error becomes OAuth JSON.
type endpoint func(http.ResponseWriter, *http.Request) error

// route is a path and the methods it knows.
type route struct {
	methods []string
	handler http.Handler
	// origins says whose scripts may call it; nil: nobody's.
	origins originPolicy
}

func (s *server) handler() http.Handler { return s.guard(dispatch(s.routes())) }

// routes are all that is served; the metadata names each endpoint among them.
func (s *server) routes() map[string]route {
	routes := map[string]route{
		pathDiscovery:  {read, s.machine("discovery", s.discovery), anyOrigin},
		pathMetadata:   {read, s.machine("discovery", s.discovery), anyOrigin},
		pathKeys:       {read, s.machine("keys", s.jwks), anyOrigin},
		pathToken:      {post, s.machine("token", s.token), s.browserClients},
		pathRevoke:     {post, s.machine("revoke", s.revoke), s.browserClients},
		pathUserinfo:   {either, s.machine("userinfo", s.userinfo), s.browserClients},
		pathDevice:     {post, s.machine("device", s.authorizeDevice), nil},
		pathIntrospect: {post, s.machine("introspect", s.introspect), nil},
		pathPush:       {post, s.machine("par", s.push), s.browserClients},
		pathAuthorize:  {either, http.HandlerFunc(s.authorize), nil},
	}
	if s.config.Registration.Access != registerOff {
		routes[pathRegister] = route{manageable, s.machine("register", s.registrations), nil}
	}
	for path, page := range s.login.Routes() {
		routes[path] = route{either, s.page(page), nil}
	}
	return routes
}

var (
	read   = []string{http.MethodGet, http.MethodHead}
	post   = []string{http.MethodPost}
	either = []string{http.MethodGet, http.MethodPost}

	manageable = []string{http.MethodPost, http.MethodGet, http.MethodPut, http.MethodDelete}
)

// dispatch matches paths exactly: no cleaning, no redirects, nothing decoded
// twice.
func dispatch(routes map[string]route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		found, ok := routes[r.URL.Path]
		if !ok || r.URL.RawPath != "" {
			writeFailure(w, &failure{code: "not_found", status: http.StatusNotFound, description: "there is nothing at this path"})
			return
		}
		if found.origins != nil && found.origins.apply(w, r, found.methods) {
			return
		}
		if !slices.Contains(found.methods, r.Method) {
			w.Header().Set("Allow", strings.Join(found.methods, ", "))
			writeFailure(w, &failure{code: codeInvalidRequest, status: http.StatusMethodNotAllowed, description: "the method is not allowed here"})
			return
		}
		found.handler.ServeHTTP(w, r)
	}
}

// guard sets the headers that every answer has and turns a panic into one
// failed request.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("Pragma", "no-cache")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		defer func() {
			if fault := recover(); fault != nil {
				s.logger.Error("a request made the issuer panic", "path", r.URL.Path, "panic", fmt.Sprint(fault), "stack", string(debug.Stack()))
				writeFailure(w, failureOf(fmt.Errorf("panic")))
			}
		}()
		next.ServeHTTP(w, withCaller(r))
	})
}

// machine renders an endpoint's error and counts it.
func (s *server) machine(name string, handle endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := handle(w, r)
		if err == nil {
			return
		}
		f := failureOf(err)
		s.audit.refused(r.Context(), name, f)
		writeFailure(w, f)
	}
}
