package authz

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the authorizer's figures; labels take values of bounded sets.
type metrics struct {
	decisions *prometheus.CounterVec
	latency   prometheus.Histogram
	tokens    *prometheus.CounterVec
	panics    prometheus.Counter
	hit, miss prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_authz_decisions_total", Help: "Decisions by verdict and reason.",
		}, []string{"verdict", "reason"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "gatehouse_authz_decision_seconds", Help: "Time from a request's arrival to its decision.",
			Buckets: []float64{.00002, .00005, .0001, .0002, .0005, .001, .002, .005, .01, .05, .2, 1},
		}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_authz_token_cache_total", Help: "Look-ups of tokens by result, hit or miss.",
		}, []string{"result"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_authz_panics_total", Help: "Panics that ended in a denial.",
		}),
	}
	m.hit, m.miss = m.tokens.WithLabelValues("hit"), m.tokens.WithLabelValues("miss")
	return m
}

func (m *metrics) decided(v verdict, reason Reason, latency time.Duration) {
	m.decisions.WithLabelValues(v.String(), string(reason)).Inc()
	m.latency.Observe(latency.Seconds())
}

// register adds all figures, those read from the server's state included.
func (s *Server) register(registerer prometheus.Registerer) error {
	collectors := []prometheus.Collector{
		s.metrics.decisions, s.metrics.latency, s.metrics.tokens, s.metrics.panics,
		gauge("rules", "Verified rules that are kept.", nil, func() float64 { return float64(s.rules.count()) }),
		gauge("ready", "1 where nothing is missing, else 0.", nil, func() float64 { return one(len(s.Missing()) == 0) }),
	}
	for _, issuer := range s.issuers.all {
		labels := prometheus.Labels{"issuer": issuer.config.Issuer}
		collectors = append(collectors,
			gauge("revocations", "Revocations held.", labels, func() float64 {
				entries, _ := issuer.revocations.figures()
				return float64(entries)
			}),
			gauge("feed_age_seconds", "Age of the revocation state; -1 before the first heartbeat.", labels, func() float64 {
				_, age := issuer.revocations.figures()
				return age.Seconds()
			}),
		)
	}
	for _, c := range collectors {
		if err := registerer.Register(c); err != nil {
			return fmt.Errorf("registering the authorizer's metrics: %w", err)
		}
	}
	return nil
}

func gauge(name, help string, labels prometheus.Labels, read func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gatehouse_authz_" + name, Help: help, ConstLabels: labels}, read)
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
