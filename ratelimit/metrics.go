package ratelimit

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the service's figures; labels take values of bounded sets.
type metrics struct {
	decisions *prometheus.CounterVec
	latency   prometheus.Histogram
	lost      prometheus.Counter
}

func newMetrics() *metrics {
	return &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_ratelimit_decisions_total", Help: "Decisions by verdict: ok or over_limit.",
		}, []string{"verdict"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "gatehouse_ratelimit_decision_seconds", Help: "Time from a request's arrival to its decision.",
			Buckets: []float64{.00002, .00005, .0001, .0002, .0005, .001, .002, .005, .01, .05, .2},
		}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_ratelimit_redis_lost_total", Help: "How often Redis went out of reach.",
		}),
	}
}

func (m *metrics) decided(fits bool, took time.Duration) {
	verdict := "over_limit"
	if fits {
		verdict = "ok"
	}
	m.decisions.WithLabelValues(verdict).Inc()
	m.latency.Observe(took.Seconds())
}

func (s *Server) register(registerer prometheus.Registerer) error {
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gatehouse_ratelimit_" + name, Help: help}, read)
	}
	for _, c := range []prometheus.Collector{
		s.metrics.decisions, s.metrics.latency, s.metrics.lost,
		gauge("degraded", "1 while Redis is out of reach, else 0.", func() float64 { return float64(len(s.degraded())) }),
		gauge("counters", "Counters kept in this process.", func() float64 {
			counters, _ := s.memory.figures()
			return float64(counters)
		}),
		gauge("counters_forgotten", "Counters forgotten to make room for others.", func() float64 {
			_, forgotten := s.memory.figures()
			return float64(forgotten)
		}),
	} {
		if err := registerer.Register(c); err != nil {
			return fmt.Errorf("registering the rate-limit service's metrics: %w", err)
		}
	}
	return nil
}
