package app

import (
	"context"
	"net"
	"time"

	"gatehouse.dev/gatehouse/internal/serve"
)

const (
	// lookEvery is how often it is looked whether something is there yet.
	lookEvery = 25 * time.Millisecond
	// tellEvery is how often it is told what a start still waits for.
	tellEvery = 10 * time.Second
)

// announce waits until requests are answered, makes the sample's accounts, and
// prints the banner. It returns when ctx ends, too.
func (s *site) announce(ctx context.Context, unready serve.Missing) error {
	if !s.await(ctx, s.lacks) {
		return nil
	}
	if s.options.Sample && s.has(Issuer) {
		if err := sampleAccounts(ctx, s.config); err != nil {
			return err
		}
	}
	if !s.await(ctx, unready) || !s.await(ctx, gone("the gateway", s.config.Gateway.Listen)) {
		return nil
	}
	s.logger.Info("ready", "url", s.config.Gateway.PublicURL)
	return s.printBanner(s.options.Out)
}

// await asks until nothing is missing any more; false where ctx ended.
func (s *site) await(ctx context.Context, missing serve.Missing) bool {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	tell := time.NewTicker(tellEvery)
	defer tell.Stop()
	for {
		lacks := missing()
		if len(lacks) == 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tell.C:
			s.logger.Warn("not ready yet", "missing", lacks)
		case <-look.C:
		}
	}
}

// lacks is what any part still misses.
func (s *site) lacks() (lacks []string) {
	for _, missing := range s.missing {
		lacks = append(lacks, missing()...)
	}
	return lacks
}

// gone says that nothing listens on an address of a part yet.
func gone(what, address string) serve.Missing {
	return func() []string {
		if reachable(address) {
			return nil
		}
		return []string{what + " on " + address}
	}
}

// reachable tells whether something listens on an address.
func reachable(address string) bool {
	network := "tcp"
	if path, unix := serve.UnixPath(address); unix {
		network, address = "unix", path
	}
	conn, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
