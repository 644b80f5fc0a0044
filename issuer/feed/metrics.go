package feed

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	watchers  prometheus.Gauge
	snapshots prometheus.Counter
	dropped   prometheus.Counter
}

func newMetrics() metrics {
	return metrics{
		watchers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatehouse_issuer_feed_watchers", Help: "Authorizers that watch the revocation feed.",
		}),
		snapshots: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_issuer_feed_snapshots_total", Help: "Snapshots sent: watchers that could not resume.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_issuer_feed_dropped_total", Help: "Watchers dropped because they took too long to accept a message.",
		}),
	}
}

func (m metrics) register(r prometheus.Registerer) error {
	return errors.Join(r.Register(m.watchers), r.Register(m.snapshots), r.Register(m.dropped))
}
