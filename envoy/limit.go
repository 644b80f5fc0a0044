package envoy

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// LimitDomain is the domain of all requests to the rate-limit service.
const LimitDomain = "gatehouse"

// Whom a limit counts by; also the keys of descriptor entries that say who it
// is. ByAddress has AddressEntry, ByRoute none: all callers count together.
const (
	ByAddress = "address"
	ByClient  = "client"
	BySubject = "subject"
	ByToken   = "token"
	ByRoute   = "route"
)

// Keys of further descriptor entries.
const (
	// LimitEntry holds a Limit, PlanEntry what the token says of a plan ("-":
	// nothing).
	LimitEntry = "limit"
	PlanEntry  = "plan"
	// AddressEntry is the client's network; the name is Envoy's.
	AddressEntry = "masked_remote_address"
	// IssuerEntry and RolesEntry are the token's.
	IssuerEntry = "issuer"
	RolesEntry  = "roles"
)

// EveryRoute is the scope of the gateway's limits, which no route's id is.
const EveryRoute = "*"

// Limit is a limit as it travels from the control plane through Envoy's route
// to the rate-limit service, which has no table of its own.
type Limit struct {
	// By is whom it counts by; Scope the route, or the gateway, that it is of.
	By, Scope       string
	Requests, Burst int64
	Per             time.Duration
}

// String is the limit's form in a descriptor.
func (l Limit) String() string {
	return fmt.Sprintf("%s;%s;%d;%d;%d", l.By, l.Scope, l.Requests, l.Per.Milliseconds(), l.Burst)
}

// Entry is the key of the descriptor entry that says who is counted; empty: all
// callers together.
func (l Limit) Entry() string {
	switch l.By {
	case ByAddress:
		return AddressEntry
	case ByRoute:
		return ""
	default:
		return l.By
	}
}

// ParseLimit reads what String wrote.
func ParseLimit(text string) (Limit, error) {
	parts := strings.Split(text, ";")
	if len(parts) != 5 || parts[1] == "" {
		return Limit{}, fmt.Errorf("%.100q is no limit", text)
	}
	l := Limit{By: parts[0], Scope: parts[1]}
	var numbers [3]int64
	for i, text := range parts[2:] {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 || n > 1_000_000_000_000 {
			return Limit{}, fmt.Errorf("%.100q is no number of a limit", text)
		}
		numbers[i] = n
	}
	l.Requests, l.Per, l.Burst = numbers[0], time.Duration(numbers[1])*time.Millisecond, numbers[2]
	switch l.By {
	case ByAddress, ByClient, BySubject, ByToken, ByRoute:
		return l, nil
	default:
		return Limit{}, fmt.Errorf("%.100q is nobody to count by", l.By)
	}
}
