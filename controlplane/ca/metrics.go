package ca

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the CA's figures: how much it signs and refuses, and what ends
// when, to be alerted on.
type metrics struct {
	issued  prometheus.Counter
	refused *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		issued: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_ca_issued_total", Help: "Certificates issued to workloads.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_ca_refused_total", Help: "Calls that were refused, by what they asked for; the log has the reasons.",
		}, []string{"call"}),
	}
	for _, call := range []string{"enrolment", "renewal"} { // 0 from the start
		m.refused.WithLabelValues(call)
	}
	return m
}

func (s *Server) register(registerer prometheus.Registerer) error {
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gatehouse_ca_" + name, Help: help}, read)
	}
	for _, c := range []prometheus.Collector{
		s.metrics.issued, s.metrics.refused,
		gauge("intermediate_end_seconds", "When the intermediate ends, in Unix seconds; 0: an external signer's.", func() float64 {
			if ends := s.authority.current.Load().ends; !ends.IsZero() {
				return float64(ends.Unix())
			}
			return 0
		}),
		gauge("root_end_seconds", "When the root that ends first does, in Unix seconds.", func() float64 {
			first := s.Roots()[0].NotAfter
			for _, root := range s.Roots() {
				if root.NotAfter.Before(first) {
					first = root.NotAfter
				}
			}
			return float64(first.Unix())
		}),
		gauge("denied_workloads", "Workloads that are revoked.", func() float64 { return float64(len(s.Denied())) }),
		gauge("watchers", "Streams that watch trust.", func() float64 { return float64(s.trust.watching()) }),
	} {
		if err := registerer.Register(c); err != nil {
			return fmt.Errorf("registering the CA's metrics: %w", err)
		}
	}
	return nil
}
