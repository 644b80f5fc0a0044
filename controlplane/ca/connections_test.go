package ca

import (
	"io"
	"net"
	"testing"
	"time"
)

// One address gets so many connections and no more, another is unaffected, and
// one that closes makes room.
func TestConnectionsAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	listener, accepted := limitCrowd(inner, 3, 2), make(chan net.Conn, 8)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("in"))
			accepted <- conn
		}
	}()
	connect := func(from string) bool {
		t.Helper()
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := dialer.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = io.ReadFull(conn, make([]byte, 2))
		return err == nil
	}
	for i, row := range []struct {
		from string
		want bool
	}{{"127.0.0.1", true}, {"127.0.0.1", true}, {"127.0.0.1", false}, {"127.0.0.2", true}, {"127.0.0.3", false}} {
		if got := connect(row.from); got != row.want {
			t.Errorf("%d, from %s: %v", i, row.from, got)
		}
	}
	first := <-accepted
	first.Close()
	first.Close() // counts once
	if !connect("127.0.0.1") || connect("127.0.0.4") {
		t.Error("one connection that closed does not make room for one")
	}
}
