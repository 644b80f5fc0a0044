package policies

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// storeMetrics are the Store's metrics; nil where none are wanted.
type storeMetrics struct {
	reloads *prometheus.CounterVec
	info    *prometheus.GaugeVec
}

func newStoreMetrics(registerer prometheus.Registerer) (*storeMetrics, error) {
	if registerer == nil {
		return nil, nil
	}
	m := &storeMetrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_policies_reload_total",
			Help: "Times the policies were loaded, by result: ok, or refused (the last good ones stay).",
		}, []string{"result"}),
		info: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gatehouse_policies_info",
			Help: "Always 1; its label is the revision of the policies in use.",
		}, []string{"revision"}),
	}
	m.reloads.WithLabelValues("ok")
	m.reloads.WithLabelValues("refused")
	return m, errors.Join(registerer.Register(m.reloads), registerer.Register(m.info))
}

func (m *storeMetrics) loaded(revision string) {
	if m == nil {
		return
	}
	m.reloads.WithLabelValues("ok").Inc()
	m.info.Reset()
	m.info.WithLabelValues(revision).Set(1)
}

func (m *storeMetrics) refused() {
	if m != nil {
		m.reloads.WithLabelValues("refused").Inc()
	}
}
