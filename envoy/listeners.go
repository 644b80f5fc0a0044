package envoy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// maxDump bounds what Envoy tells of its listeners, in bytes.
const maxDump = 1 << 20

// listenersPath asks for no more of each listener than whether it is there.
const listenersPath = "/config_dump?resource=dynamic_listeners&mask=name,active_state.version_info,warming_state.version_info,error_state.details"

// dumpedListener is one of Envoy's listeners (envoy.admin.v3.ListenersConfigDump).
type dumpedListener struct {
	Name    string    `json:"name"`
	Active  *struct{} `json:"active_state"`
	Warming *struct{} `json:"warming_state"`
	Error   *struct {
		Details string `json:"details"`
	} `json:"error_state"`
}

// absent tells a listener that Envoy could not open. One that it only could not
// change serves on as it was.
func (l dumpedListener) absent() bool {
	return l.Name != "" && l.Error != nil && l.Active == nil && l.Warming == nil
}

// listening is an error where a listener of the configuration is not there, for
// Envoy calls itself ready without.
func (p *Process) listening(ctx context.Context) error {
	response, err := p.get(ctx, listenersPath)
	if err != nil {
		return fmt.Errorf("asking Envoy for its listeners: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("asking Envoy for its listeners: it answered %s", response.Status)
	}
	var dump struct {
		Configs []dumpedListener `json:"configs"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxDump)).Decode(&dump); err != nil {
		return fmt.Errorf("reading what Envoy tells of its listeners: %w", err)
	}
	var absent []error
	for _, l := range dump.Configs {
		if l.absent() {
			absent = append(absent, fmt.Errorf("envoy has no listener %q: %s", l.Name, l.Error.Details))
		}
	}
	return errors.Join(absent...)
}
