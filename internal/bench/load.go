package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"gatehouse.dev/gatehouse/envoy"
)

// clients is how many Checks are under way at once.
const clients = 8

// tick is the unit of CPU times in /proc (USER_HZ, 100 on Linux).
const tick = 10 * time.Millisecond

// round sends the tokens, each once, and returns the server process's CPU time
// per Check. Every answer must be OK.
func round(ctx context.Context, c contestant, rule string, tokens []string) (time.Duration, error) {
	before, err := cpuTime(c.pid)
	if err != nil {
		return 0, err
	}
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range clients {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(tokens) {
					return nil
				}
				if err := check(ctx, c.client, rule, tokens[i]); err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	after, err := cpuTime(c.pid)
	if err != nil {
		return 0, err
	}
	return (after - before) / time.Duration(len(tokens)), nil
}

// check sends the request that Envoy would send for GET /orders.
func check(ctx context.Context, client authv3.AuthorizationClient, rule, token string) error {
	header := func(key, value string) *corev3.HeaderValue {
		return &corev3.HeaderValue{Key: key, RawValue: []byte(value)}
	}
	answer, err := client.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 40000}},
		}}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: "1", Method: "GET", Path: "/orders", Host: "localhost", Scheme: "https", Protocol: "HTTP/1.1",
			HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
				header("authorization", "Bearer "+token),
				header("x-request-id", "5c0d8cbe-16a5-4a5a-9f4e-000000000001"),
			}},
		}},
		ContextExtensions: map[string]string{envoy.RuleExtension: rule},
	}})
	if err != nil {
		return err
	}
	if code := codes.Code(answer.GetStatus().GetCode()); code != codes.OK {
		return fmt.Errorf("a Check was denied: %v %s", code, answer.GetDeniedResponse().GetBody())
	}
	return nil
}

// cpuTime is the user and system time that a process has used.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the server's CPU time: %w", err)
	}
	// The command's name may hold spaces; utime and stime are the 12th and
	// 13th field after its closing parenthesis (proc(5)).
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("reading the server's CPU time: %q has too few fields", stat)
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading the server's CPU time: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}
