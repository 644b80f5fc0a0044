package controlplane

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	nodes   prometheus.Gauge
	nacks   *prometheus.CounterVec
	refused prometheus.Counter
	publish prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (*metrics, prometheus.Gatherer, error) {
	m := &metrics{
		nodes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatehouse_controlplane_nodes", Help: "Envoys that are connected.",
		}),
		nacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_controlplane_nacks_total", Help: "Responses that an Envoy refused, by kind of resource.",
		}, []string{"resource"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_controlplane_refused_edits_total", Help: "Edits of the gateway that were not valid.",
		}),
		publish: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "gatehouse_controlplane_publish_seconds", Help: "From an edit until every connected Envoy has it and nothing else.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
		}),
	}
	for _, c := range []prometheus.Collector{m.nodes, m.nacks, m.refused, m.publish} {
		if err := r.Register(c); err != nil {
			return nil, nil, fmt.Errorf("registering the control plane's metrics: %w", err)
		}
	}
	gatherer, ok := r.(prometheus.Gatherer)
	if !ok {
		gatherer = prometheus.NewRegistry()
	}
	return m, gatherer, nil
}

// kindOf is the last word of a type URL: Cluster, Listener, ….
func kindOf(typeURL string) string {
	return typeURL[strings.LastIndexByte(typeURL, '.')+1:]
}
