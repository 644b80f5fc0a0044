package controlplane

import (
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"gatehouse.dev/gatehouse/envoy"
)

// clientCredentials are removed from requests to services, on public routes too.
var clientCredentials = []string{"authorization", "dpop", "proxy-authorization"}

// misleading are headers by which a client could make a back end see another
// host, path, method, address or person than the one that was authorized. Envoy
// sets x-forwarded-proto anew; x-forwarded-for is clientAddress's.
var misleading = []string{
	"forwarded", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-server",
	"x-forwarded-proto", "x-forwarded-scheme", "x-forwarded-ssl", "x-forwarded-uri", "x-forwarded-path", "x-forwarded-method", "x-forwarded-user",
	"x-host", "x-http-host-override", "front-end-https",
	"x-original-host", "x-original-url", "x-original-uri", "x-original-method", "x-rewrite-url", "x-override-url",
	"x-http-method", "x-http-method-override", "x-method-override", "x-method",
	"x-real-ip", "x-client-ip", "true-client-ip", "x-remote-user", "remote-user",
}

// earlyStrip removes, before routing and before every filter, what only we may
// say: identity headers, Envoy's own, and what would mislead a back end; and
// what else is named.
func earlyStrip(also ...string) *corev3.TypedExtensionConfig {
	mutation := &earlyv3.HeaderMutation{Mutations: []*mutationv3.HeaderMutation{
		removePrefix(envoy.HeaderPrefix), removePrefix("x-envoy-"),
	}}
	for _, name := range also {
		mutation.Mutations = append(mutation.Mutations, remove(name))
	}
	for _, name := range misleading {
		mutation.Mutations = append(mutation.Mutations, remove(name))
	}
	return &corev3.TypedExtensionConfig{
		Name: "envoy.http.early_header_mutation.header_mutation", TypedConfig: pack(mutation),
	}
}

func remove(name string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}}
}

func removePrefix(prefix string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{
		KeyMatcher: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}, IgnoreCase: true,
		},
	}}}
}

const cookieFilter = "envoy.filters.http.lua"

// stripCookies takes the gate's own cookies (__Host-gatehouse-… and
// gatehouse-…) out of a request and leaves the rest; nothing else in Envoy can
// remove one cookie of several.
const stripCookies = `
local function ours(pair)
  local name = pair:match("^%s*([^=]*)"):lower()
  return name:sub(1, 10) == "gatehouse-" or name:sub(1, 17) == "__host-gatehouse-" or name:sub(1, 19) == "__secure-gatehouse-"
end
function envoy_on_request(request)
  local headers = request:headers()
  local count = headers:getNumValues("cookie")
  if count == 0 then return end
  local kept, removed = {}, false
  for i = 0, count - 1 do
    for pair in headers:getAtIndex("cookie", i):gmatch("[^;]+") do
      if ours(pair) then removed = true else kept[#kept + 1] = pair:match("^%s*(.-)%s*$") end
    end
  end
  if not removed then return end
  headers:remove("cookie")
  if #kept > 0 then headers:add("cookie", table.concat(kept, "; ")) end
end
`

func cookieStrip() *luav3.Lua {
	return &luav3.Lua{
		DefaultSourceCode: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: stripCookies}},
		ClearRouteCache:   no(), // the check was for the route as matched
	}
}

func keepCookies() *anypb.Any {
	return pack(&luav3.LuaPerRoute{Override: &luav3.LuaPerRoute_Disabled{Disabled: true}})
}
