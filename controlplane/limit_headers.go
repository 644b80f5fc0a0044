package controlplane

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

const limitHeaders = "gatehouse.limits.headers"

// tellLimits makes of what Envoy's filters say (X-RateLimit-*, once for each
// filter that counted, the last first) and the rate-limit service (whose
// headers come before theirs) one set: X-RateLimit-* of the tightest, RateLimit
// and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10) of all, and
// Retry-After where the answer is 429, or gRPC's RESOURCE_EXHAUSTED. Envoy itself knows the first alone.
const tellLimits = `
local function pick(filter, limit)
  for _, policy in ipairs(filter or {}) do
    if policy.q == limit then return policy end
  end
end
function envoy_on_response(response)
  local headers = response:headers()
  local total = headers:getNumValues("x-ratelimit-limit")
  if total == 0 then return end
  local filters = response:filterContext():get("filters") or {}
  local policies, states, first = {}, {}, 0
  if headers:getNumValues("ratelimit") > 0 then
    policies[1], states[1], first = headers:get("ratelimit-policy"), headers:get("ratelimit"), 1
  end
  local tight, least, at = 0, nil, {}
  for i = 0, total - 1 do
    local limit = tonumber(headers:getAtIndex("x-ratelimit-limit", i)) or 0
    local left = tonumber(headers:getAtIndex("x-ratelimit-remaining", i)) or 0
    local reset = tonumber(headers:getAtIndex("x-ratelimit-reset", i)) or 0
    local policy = i >= first and pick(filters[total - i], limit)
    -- Envoy says when the next request fits, and 0 where one does now.
    local next = math.max(1, reset)
    if policy then reset = math.ceil((limit - left) * policy.w / limit) end
    at[i] = {limit, left, reset, next}
    if not least or left < least then tight, least = i, left end
    if policy then
      policies[#policies + 1] = string.format('"%s";q=%d;w=%d', policy.name, limit, policy.w)
      states[#states + 1] = string.format('"%s";r=%d;t=%d', policy.name, left, reset)
    end
  end
  headers:replace("x-ratelimit-limit", tostring(at[tight][1]))
  headers:replace("x-ratelimit-remaining", tostring(at[tight][2]))
  headers:replace("x-ratelimit-reset", tostring(at[tight][3]))
  if #policies > 0 then
    headers:replace("ratelimit-policy", table.concat(policies, ", "))
    headers:replace("ratelimit", table.concat(states, ", "))
  end
  local refused = at[0][2] == 0 and (headers:get(":status") == "429" or headers:get("grpc-status") == "8")
  if refused and headers:getNumValues("retry-after") == 0 then
    headers:add("retry-after", tostring(at[0][4]))
  end
end
`

// told by services as well, whose numbers would be taken for the gate's.
var limitHeaderNames = []string{"ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}

func headerFilter() *luav3.Lua {
	return &luav3.Lua{
		DefaultSourceCode: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: tellLimits}},
		ClearRouteCache:   no(),
	}
}

// describe tells the header filter which filters count on a route, in their
// order, and which policies each has; nil: none does.
func describe(filters [][]Limit, shared bool) *anypb.Any {
	list := &structpb.ListValue{}
	for _, limits := range filters {
		if len(limits) == 0 {
			continue
		}
		policies := &structpb.ListValue{}
		for _, l := range limits {
			policies.Values = append(policies.Values, structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
				"name": structpb.NewStringValue(l.name()),
				"q":    structpb.NewNumberValue(float64(l.Burst)),
				"w":    structpb.NewNumberValue(float64(l.window())),
			}}))
		}
		list.Values = append(list.Values, structpb.NewListValue(policies))
	}
	if len(list.Values) == 0 && !shared {
		return nil
	}
	return pack(&luav3.LuaPerRoute{FilterContext: &structpb.Struct{Fields: map[string]*structpb.Value{"filters": structpb.NewListValue(list)}}})
}

// window is how long an empty bucket takes to fill, in seconds.
func (l *Limit) window() int64 {
	per := int64(l.Per.Seconds())
	return max(1, (l.Burst*per+l.Requests-1)/l.Requests)
}

// counted adds to a route what it needs for its limits and the gateway's. r is
// nil for a route of the generator's own, which nobody is identified for.
func (in *Inputs) counted(settings map[string]*anypb.Any, r *Route) (told bool) {
	global, own := in.Gateway.Limits, []Limit(nil)
	if r != nil {
		own = r.Limits
		routeLimits(settings, r)
	}
	filters := [][]Limit{here(global, byAddress), here(own, byAddress), here(global, afterCheck), here(own, afterCheck)}
	if r == nil || r.Public {
		filters[2] = nil
		if len(here(global, afterCheck)) > 0 {
			settings[gatewayCallerLimit] = uncounted()
		}
	}
	described := describe(filters, len(in.sharedLimits(r)) > 0)
	if described != nil {
		settings[limitHeaders] = described
	}
	return described != nil
}
