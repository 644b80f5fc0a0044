package journal

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	written   prometheus.Counter
	lost      *prometheus.CounterVec
	anomalies *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "gatehouse", Subsystem: "issuer", Name: name, Help: help}
	}
	m := &metrics{
		written:   prometheus.NewCounter(opts("audit_written_total", "Events that were written into the audit log from its queue.")),
		lost:      prometheus.NewCounterVec(opts("audit_lost_total", "Events that the audit log does not have, by reason: suppressed, overflow, failed."), []string{"reason"}),
		anomalies: prometheus.NewCounterVec(opts("anomalies_total", "What an operator should look at, by kind."), []string{"kind"}),
	}
	// Alerts want the zeros, too.
	for _, reason := range []string{"suppressed", "overflow", "failed"} {
		m.lost.WithLabelValues(reason)
	}
	for _, kind := range kinds {
		m.anomalies.WithLabelValues(kind)
	}
	for _, c := range []prometheus.Collector{m.written, m.lost, m.anomalies} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
