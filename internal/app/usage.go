package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/ratelimit"
)

// Usage asks the rate-limit service of this machine what callers have used, of
// one client or one subject where it is not empty.
func Usage(ctx context.Context, c *Config, client, subject string) ([]ratelimit.Usage, error) {
	if c.RateLimit == nil {
		return nil, fmt.Errorf("%s has no rate-limit service, so nothing is counted together", c.Path())
	}
	query := url.Values{}
	if client != "" {
		query.Set("client", client)
	}
	if subject != "" {
		query.Set("subject", subject)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.RateLimit.Telemetry+"/usage?"+query.Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("asking the rate-limit service: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking the rate-limit service at %s: %w (does it run?)", c.RateLimit.Telemetry, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 8<<20))
	if err != nil {
		return nil, fmt.Errorf("asking the rate-limit service: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.New("the rate-limit service says: " + strings.TrimSpace(string(body)))
	}
	var usage []ratelimit.Usage
	return usage, json.Unmarshal(body, &usage)
}
