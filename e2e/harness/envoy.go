package harness

import (
	"regexp"
	"testing"

	"google.golang.org/protobuf/proto"

	"gatehouse.dev/gatehouse/envoy"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

var extension = regexp.MustCompile(`"` + envoy.RuleExtension + `":\s*"([^"]*)"`)

// EnvoyAdmin is what Envoy's admin listener answers at a path.
func (s *System) EnvoyAdmin(t testing.TB, path string) string {
	t.Helper()
	_, body := get(t, "http://"+s.config.Text("envoy.admin")+path)
	return body
}

// EnvoyRules are the signed rules in Envoy's running configuration, by the id
// of their route.
func (s *System) EnvoyRules(t testing.TB) map[string]*rulev1.SignedRule {
	t.Helper()
	rules := map[string]*rulev1.SignedRule{}
	for _, found := range extension.FindAllStringSubmatch(s.EnvoyAdmin(t, "/config_dump"), -1) {
		signed := UnpackRule(t, found[1])
		rule := &rulev1.Rule{}
		if err := proto.Unmarshal(signed.GetRule(), rule); err != nil {
			t.Fatal(err)
		}
		rules[rule.GetRoute()] = signed
	}
	return rules
}
