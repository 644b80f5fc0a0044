package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// The test of edits changes one route over and over: its configuration number i
// demands the scope "turn:K" and leads to the service "turn-K", where K is i
// modulo turns. So each answer says which configuration it came from, and one
// that mixes two of them shows it: a token with turn:1 let through to turn-2.
const turns = 4

func turnScope(k int) string   { return fmt.Sprintf("turn:%d", k%turns) }
func turnService(k int) string { return fmt.Sprintf("turn-%d", k%turns) }

// turnToken is which token a request of the load carries: they alternate.
func turnToken(worker, n int) int { return (worker + n) % turns }

// turnOf is the configuration, modulo turns, that an answer belongs to.
func turnOf(r harness.Result) (int, error) {
	if r.Err != nil {
		return 0, r.Err
	}
	token := turnToken(r.Worker, r.N)
	switch r.Status {
	case http.StatusOK:
		if service := r.Header.Get("X-Service"); service != turnService(token) {
			return 0, fmt.Errorf("the token with %s was let through to %s", turnScope(token), service)
		}
		return token, nil
	case http.StatusForbidden:
		for k := range turns {
			if r.Header.Get("WWW-Authenticate") == `Bearer error="insufficient_scope", scope="`+turnScope(k)+`"` {
				if k == token {
					return 0, fmt.Errorf("the token with %s was denied for want of it", turnScope(token))
				}
				return k, nil
			}
		}
		return 0, fmt.Errorf("a denial for want of %s", r.Header.Get("WWW-Authenticate"))
	}
	return 0, fmt.Errorf("status %d", r.Status)
}

// strayVerdicts are the results that belong to neither the configuration that
// their worker saw before nor the one after it. On one connection no
// configuration comes back once its successor was seen.
func strayVerdicts(results []harness.Result) (stray []harness.Result, steps map[int]int) {
	at := map[int]int{}
	steps = map[int]int{}
	for _, r := range results {
		turn, err := turnOf(r)
		switch {
		case err != nil:
			r.Body = err.Error()
			stray = append(stray, r)
		case turn == at[r.Worker]:
		case turn == (at[r.Worker]+1)%turns:
			at[r.Worker] = turn
			steps[r.Worker]++
		default:
			r.Body = fmt.Sprintf("configuration %d after %d", turn, at[r.Worker])
			stray = append(stray, r)
		}
	}
	return stray, steps
}

// awaitTurn waits until every worker's last answer is of a configuration.
func awaitTurn(t *testing.T, load *harness.Running, workers, i int) {
	t.Helper()
	harness.Eventually(t, 15*time.Second, func() error {
		for worker := range workers {
			if turn, err := turnOf(load.Last(worker)); err != nil || turn != i%turns {
				return fmt.Errorf("edit %d: worker %d is at %d, %v", i, worker, turn, err)
			}
		}
		return nil
	})
}

// editUnderLoad edits a route a number of times while a load runs on it, each
// time until all its connections see the edit, and returns the stray verdicts.
func editUnderLoad(t *testing.T, edits, workers int, load *harness.Running, edit func(i int)) (stray []harness.Result, sent int) {
	t.Helper()
	for i := 1; i <= edits; i++ {
		edit(i)
		awaitTurn(t, load, workers, i)
	}
	load.AwaitMore(t, 4*workers)
	results := load.Stop()
	stray, steps := strayVerdicts(results)
	for worker := range workers {
		if steps[worker] != edits && len(stray) == 0 {
			t.Errorf("worker %d saw %d of %d edits", worker, steps[worker], edits)
		}
	}
	return stray, len(results)
}

// turningSystem is a system whose route /turn can be edited, with a client for
// each turn.
func turningSystem(t *testing.T) (s *harness.System, robots [turns]harness.Client) {
	s = harness.Start(t, harness.Options{Authorizers: 2, Configure: func(s *harness.System, c harness.Config) {
		var scopes []string
		services := c.Get("gateway.services").(map[string]any)
		for k := range turns {
			scopes = append(scopes, turnScope(k))
			services[turnService(k)] = map[string]any{"url": harness.StartService(t, turnService(k)).URL}
		}
		c.Set("issuer.apis", append(c.Get("issuer.apis").([]any), map[string]any{"audience": "https://turn.example", "scopes": scopes}))
		c.AddRoute(harness.Route{"id": "turn", "path": "/turn", "service": turnService(0), "audience": "https://turn.example", "scopes": []string{turnScope(0)}})
		c.Set("authz.allowed_events", "debug")
	}})
	for k := range turns {
		robots[k], _ = s.Robot(t, fmt.Sprintf("robot-%d", k), turnScope(k))
	}
	return s, robots
}

// turn edits the route of a turningSystem to its configuration i.
func turn(t *testing.T, s *harness.System, i int) {
	t.Helper()
	s.Edit(t, func(c harness.Config) {
		r := c.Route("turn")
		r["scopes"], r["service"] = []string{turnScope(i)}, turnService(i)
	})
}

// hundredEdits edits the route /turn a hundred times under load, and ends at the
// configuration at which it began.
func hundredEdits(t *testing.T, s *harness.System, robots [turns]harness.Client) {
	t.Helper()
	const edits, workers = 100, 4
	var tokens [turns]string
	for k, robot := range robots {
		tokens[k] = s.Token(t, robot, turnScope(k))
	}
	load := s.Load(t, "", "/turn")
	load.Workers, load.Pause = workers, 4*time.Millisecond
	load.Next = func(worker, n int) *http.Request { return s.Request(t, "/turn", tokens[turnToken(worker, n)]) }
	running := load.Start(t)
	awaitTurn(t, running, workers, 0)
	stray, sent := editUnderLoad(t, edits, workers, running, func(i int) { turn(t, s, i) })
	harness.Complain(t, stray, sent, "got a verdict of neither configuration")
	if sent < 20*edits {
		t.Errorf("the load sent %d requests: too few for %d edits", sent, edits)
	}
}

// A hundred edits of a route's scope and service under load: every verdict is
// the old configuration's or the new one's, on both authorizers.
func TestRulesTravelThroughEdits(t *testing.T) {
	s, robots := turningSystem(t)
	hundredEdits(t, s, robots)
	for _, name := range []string{harness.Authz, harness.AuthzName(1)} {
		if count := s.Metric(t, name, `gatehouse_authz_decisions_total{reason="allowed",verdict="allowed"}`); count < 100 {
			t.Errorf("%s allowed %v requests: it had no share in this", name, count)
		}
	}
}

// The control: a gate that mixes two configurations, or goes back to an old one,
// now and then is found out, and one that never does is not.
func TestRulesTravelControl(t *testing.T) {
	const edits, workers = 20, 4
	for name, wrong := range map[string]func(w http.ResponseWriter, token, at int){
		"never":                           nil,
		"one's rule on the other's route": func(w http.ResponseWriter, token, _ int) { verdict(w, token, token, token+1) },
		"no such scope any more":          func(w http.ResponseWriter, token, at int) { verdict(w, token, at+2, at+2) },
		"the one before":                  func(w http.ResponseWriter, token, at int) { verdict(w, token, at+turns-1, at+turns-1) },
		"an error":                        func(w http.ResponseWriter, _, _ int) { w.WriteHeader(http.StatusServiceUnavailable) },
	} {
		t.Run(name, func(t *testing.T) {
			var at, answered atomic.Int64
			gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				token := int(r.Header.Get("Authorization")[0] - '0')
				if n := answered.Add(1); n%500 == 0 && wrong != nil {
					wrong(w, token, int(at.Load()))
					return
				}
				i := int(at.Load())
				verdict(w, token, i, i)
			}))
			defer gate.Close()
			load := harness.Load{Address: strings.TrimPrefix(gate.URL, "http://"), Workers: workers, Pause: time.Millisecond, Next: func(worker, n int) *http.Request {
				request, err := http.NewRequest("GET", gate.URL+"/turn", nil)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Authorization", fmt.Sprint(turnToken(worker, n)))
				return request
			}}
			running := load.Start(t)
			stray, sent := editUnderLoad(t, edits, workers, running, func(i int) {
				running.AwaitMore(t, 100)
				at.Store(int64(i))
			})
			if wrong == nil && len(stray) > 0 || wrong != nil && len(stray) == 0 {
				t.Errorf("%d of %d verdicts are taken for stray", len(stray), sent)
			}
		})
	}
}

// verdict answers as a gate does whose rule demands the scope of one turn and
// whose route leads to the service of another.
func verdict(w http.ResponseWriter, token, rule, route int) {
	if token%turns != rule%turns {
		w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+turnScope(rule)+`"`)
		w.WriteHeader(http.StatusForbidden)
		return
	}
	w.Header().Set("X-Service", turnService(route))
}
