package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/token"
)

// memberVariable makes a test process a member: its value is a Member in JSON.
const memberVariable = "GATEHOUSE_E2E_MEMBER"

// Member is a service in a process of its own, this test's program started
// again. It lets through what package token's middleware does and nothing else,
// and calls others through its sidecar.
//
//	POST, DELETE …   need the scope write:orders, by the middleware
//	GET /call…       asks the service `to` for `path` with `method`, `narrow`ed
//	GET /grpc…       asks the service `to` for its health
//	GET /events      goes on, with a line ten times a second
//	anything else    a JSON Heard
type Member struct {
	Name string
	// Listen is for its sidecar, Control for the test.
	Listen, Control string
	// KeysURL and Outbound are its sidecars'.
	KeysURL, Outbound string
}

// TransactionHeader is a member's own transaction, in its answer to a call that
// it passed on.
const TransactionHeader = "X-Transaction"

// Heard is a request as the middleware let it through.
type Heard struct {
	Seen
	Subject, Audience, Requester, Transaction string
	Scopes, Roles, Actors                     []string
}

// Report is what a member's control address answers.
type Report struct {
	// Arrived counts requests before the middleware, Heard those behind it.
	Arrived, Heard int64
	Last           Heard
}

// Start runs the member until the test ends.
func (m Member) Start(t testing.TB, f *Folder) *Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(self)
	command.Env = append(os.Environ(), memberVariable+"="+string(text))
	p := f.Launch(t, "service-"+m.Name, command)
	Eventually(t, startTime, func() error {
		if p.Ended() {
			t.Fatalf("%s ended:\n%s", m.Name, p.Log())
		}
		return expect200("http://" + m.Control)
	})
	return p
}

// Report asks the member what came.
func (m Member) Report(t testing.TB) (r Report) {
	t.Helper()
	_, body := get(t, "http://"+m.Control)
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatalf("the report of %s is %q: %v", m.Name, body, err)
	}
	return r
}

// member is the process.
type member struct {
	Member
	outbound *token.Outbound
	client   *http.Client
	arrived  atomic.Int64
	heard    atomic.Int64
	last     atomic.Pointer[Heard]
}

// beMember serves where the environment asks for it, and does not return then.
func beMember() {
	text := os.Getenv(memberVariable)
	if text == "" {
		return
	}
	m := &member{}
	err := json.Unmarshal([]byte(text), &m.Member)
	if err == nil {
		err = m.run()
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func (m *member) run() error {
	verifier, err := token.NewServiceVerifier(token.ServiceConfig{
		Service: envoy.ServiceIdentity("gatehouse.local", m.Name), KeysURL: m.KeysURL,
		Logger: slog.New(slog.NewJSONHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	if m.outbound, err = token.NewOutbound(m.Outbound); err != nil {
		return err
	}
	m.client = m.outbound.Client()
	calls := grpc.NewServer(grpc.ChainUnaryInterceptor(verifier.Unary, m.hearCall))
	grpc_health_v1.RegisterHealthServer(calls, health.NewServer())
	pages := verifier.HTTP(m.routes())
	go http.ListenAndServe(m.Control, http.HandlerFunc(m.report))
	return serveAll(m.Listen, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.arrived.Add(1)
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			calls.ServeHTTP(w, r)
			return
		}
		pages.ServeHTTP(w, r)
	}))
}

// serveAll serves HTTP/1.1 and HTTP/2 without TLS until SIGTERM.
func serveAll(address string, handler http.Handler) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	go func() {
		<-ended
		os.Exit(0)
	}()
	return server.Serve(listener)
}

func (m *member) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", http.HandlerFunc(m.hear))
	for _, method := range []string{"POST", "DELETE"} {
		mux.Handle(method+" /", token.RequireScope(http.HandlerFunc(m.hear), "write:orders"))
	}
	mux.HandleFunc("GET /"+m.Name+"/call", m.call)
	mux.HandleFunc("GET /"+m.Name+"/grpc", m.callGRPC)
	mux.HandleFunc("GET /"+m.Name+"/events", m.events)
	return mux
}

func (m *member) hear(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	seen := Seen{Service: m.Name, Method: r.Method, Path: r.URL.RequestURI(), Header: lower(r.Header), Trailer: lower(r.Trailer), Body: string(body)}
	answerJSON(w, http.StatusOK, m.note(r.Context(), seen))
}

func (m *member) hearCall(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	m.note(ctx, Seen{Service: m.Name, Method: http.MethodPost, Path: info.FullMethod, Header: lower(http.Header(md))})
	return next(ctx, request)
}

// note keeps what came.
func (m *member) note(ctx context.Context, seen Seen) Heard {
	heard := Heard{Seen: seen}
	if a, ok := token.CallerFrom(ctx); ok {
		heard.Subject, heard.Audience, heard.Requester, heard.Transaction = a.Subject(), a.Audience(), a.Requester(), a.Transaction()
		heard.Scopes, heard.Roles, heard.Actors = a.Scopes(), a.Roles(), a.Actors()
	}
	m.heard.Add(1)
	m.last.Store(&heard)
	return heard
}

func (m *member) events(w http.ResponseWriter, r *http.Request) {
	m.heard.Add(1)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		fmt.Fprintln(w, "tick")
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

// call answers with what the other service did.
func (m *member) call(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	request, err := http.NewRequestWithContext(narrowed(r), query.Get("method"), "http://"+query.Get("to")+query.Get("path"), nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	m.heard.Add(1)
	answer, err := Read(m.client, request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	if caller, ok := token.CallerFrom(r.Context()); ok {
		w.Header().Set(TransactionHeader, caller.Transaction())
	}
	w.WriteHeader(answer.Status)
	io.WriteString(w, answer.Body)
}

// callGRPC answers with the code of the call: 502 where it is not OK.
func (m *member) callGRPC(w http.ResponseWriter, r *http.Request) {
	conn, err := m.outbound.Dial(r.URL.Query().Get("to"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer conn.Close()
	m.heard.Add(1)
	_, err = grpc_health_v1.NewHealthClient(conn).Check(narrowed(r), &grpc_health_v1.HealthCheckRequest{})
	code := http.StatusOK
	if err != nil {
		code = http.StatusBadGateway
	}
	answerJSON(w, code, status.Code(err).String())
}

func narrowed(r *http.Request) context.Context {
	if narrow := r.URL.Query()["narrow"]; len(narrow) > 0 {
		return token.Narrow(r.Context(), strings.Fields(narrow[0])...)
	}
	return r.Context()
}

func (m *member) report(w http.ResponseWriter, _ *http.Request) {
	report := Report{Arrived: m.arrived.Load(), Heard: m.heard.Load()}
	if last := m.last.Load(); last != nil {
		report.Last = *last
	}
	answerJSON(w, http.StatusOK, report)
}

func answerJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the caller may be gone
}
