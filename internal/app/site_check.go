package app

import (
	"fmt"
	"slices"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/store"
)

// violations are what is wrong with a site by itself: what stands twice, of
// which the second would fail once the first is made, and types that are none.
func (s *Site) violations() (vs conf.Violations) {
	seen := map[string]string{}
	once := func(kind, name, key, value string) {
		if first, twice := seen[kind+name]; twice {
			vs.Add(key, value, "stands twice, first at "+first, "write it once")
			return
		}
		seen[kind+name] = key
	}
	for i, g := range s.Groups {
		once("group ", g.Name, fmt.Sprintf("groups[%d].name", i), g.Name)
	}
	for i, c := range s.Clients {
		key := fmt.Sprintf("clients[%d]", i)
		if c.ID != "" { // else each gets one that is made
			once("client ", c.ID, key+".id", c.ID)
		}
		if !slices.Contains([]string{"", "confidential", "public", "native"}, c.Type) {
			vs.Add(key+".type", c.Type, "is no type of clients", "write confidential, public or native")
		}
	}
	for i, u := range s.Users {
		login, err := store.ParseLogin(u.Login)
		if err != nil {
			continue // the issuer says what is wrong with it
		}
		once("user ", string(login), fmt.Sprintf("users[%d].login", i), u.Login)
	}
	return vs
}
