// Package serve opens listeners and runs HTTP and gRPC servers on them until
// their context ends, then drains them. Calls between parts of Gatehouse go
// over a 0600 Unix socket or over mutual TLS between SPIFFE identities, and
// over nothing else.
package serve

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"gatehouse.dev/gatehouse/internal/conf"
)

// UnixPath is the path of an address "unix:PATH"; ok is false for host:port.
func UnixPath(address string) (path string, ok bool) {
	return strings.CutPrefix(address, "unix:")
}

// Absolute makes the path in "unix:PATH" absolute against dir; a host:port is
// returned as it is.
func Absolute(dir, address string) string {
	path, ok := UnixPath(address)
	if !ok || path == "" || filepath.IsAbs(path) {
		return address
	}
	return "unix:" + filepath.Join(dir, path)
}

// ValidateAddress reports an address under key that is neither "unix:PATH" nor
// "host:port", or is host:port where there is no identity to secure it with.
func ValidateAddress(key, address string, id Identity) (vs conf.Violations) {
	vs = ValidateEndpoint(key, address)
	if _, unix := UnixPath(address); !unix && vs == nil && !id.Set() {
		vs.Add(key, address, "is a TCP address without mutual TLS", "set `identity`, or use a Unix socket: unix:PATH")
	}
	return vs
}

// aside is what bindAside adds to a socket's folder, at its longest.
const aside = "/.s4294967295/s"

// ValidateEndpoint reports an address under key that is neither "unix:PATH" nor
// "host:port".
func ValidateEndpoint(key, address string) (vs conf.Violations) {
	if path, ok := UnixPath(address); ok {
		// sun_path holds 108 bytes with the final NUL, and bind(2) says only
		// "invalid argument".
		bound := max(len(path), len(filepath.Dir(path))+len(aside))
		if path == "" || bound > 107 {
			vs.Add(key, address, "is no usable socket path", "write unix:PATH with a path of 1 to 107 bytes, in a folder of at most 92")
		}
		return vs
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		vs.Add(key, address, "is no address", "write unix:PATH or HOST:PORT")
	}
	return vs
}

// Listen opens "unix:PATH" as a 0600 socket, or "host:port". A socket file
// that nobody answers on is replaced; one in use is an error.
func Listen(address string) (net.Listener, error) {
	path, ok := UnixPath(address)
	if !ok {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listening on %s: %w (is another process using it? choose another address)", address, err)
		}
		return listener, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of socket %s: %w", path, err)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("listening on %s: another process answers there; stop it or choose another path", address)
	}
	return listenPrivate(path)
}

// listenPrivate puts a 0600 socket in place.
func listenPrivate(path string) (net.Listener, error) {
	listener, err := bindAside(path, 0o600)
	if err != nil {
		return nil, err
	}
	return &unixListener{UnixListener: listener, path: path}, nil
}

// bindAside binds in a 0700 folder of its own and moves the socket into place
// once it has its mode, so that nobody can connect in between. What is in place
// is replaced if it is a socket.
func bindAside(path string, mode os.FileMode) (*net.UnixListener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket == 0 {
		return nil, fmt.Errorf("listening on unix:%s: a file that is no socket is there; move it away", path)
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("making socket %s: %w", path, err)
	}
	defer os.RemoveAll(private)
	bound := filepath.Join(private, "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: bound, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listening on unix:%s: %w", path, err)
	}
	listener.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(bound, mode), os.Rename(bound, path)); err != nil {
		listener.Close()
		return nil, fmt.Errorf("putting socket %s in place: %w", path, err)
	}
	return listener, nil
}

// unixListener removes its socket file when it closes.
type unixListener struct {
	*net.UnixListener
	path string
}

func (l *unixListener) Close() error {
	err := l.UnixListener.Close()
	if err == nil {
		os.Remove(l.path)
	}
	return err
}
