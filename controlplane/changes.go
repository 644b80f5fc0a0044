package controlplane

import (
	"reflect"
	"slices"
	"strings"
)

// changedKeys are the configuration keys that differ between two snapshots:
// "gateway.listen", "gateway.services.orders.url",
// "gateway.routes[orders-list].scopes". Routes are told by their ids, so that
// one more in front changes no other.
func changedKeys(before, after *Snapshot) []string {
	keys := structKeys("gateway", reflect.ValueOf(before.in.Gateway), reflect.ValueOf(after.in.Gateway))
	if a, b := before.types[secretType][edgeSecret], after.types[secretType][edgeSecret]; a.GetVersion() != b.GetVersion() {
		keys = append(keys, "gateway.tls (the files)")
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func structKeys(key string, a, b reflect.Value) (keys []string) {
	for i := range a.NumField() {
		name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			keys = append(keys, valueKeys(key+"."+name, a.Field(i), b.Field(i))...)
		}
	}
	return keys
}

func valueKeys(key string, a, b reflect.Value) []string {
	if reflect.DeepEqual(a.Interface(), b.Interface()) {
		return nil
	}
	switch routes := a.Interface().(type) {
	case []Route:
		return routeKeys(key, routes, b.Interface().([]Route))
	case map[string]Service:
		return mapKeys(key, a, b)
	}
	if a.Kind() == reflect.Struct {
		return structKeys(key, a, b)
	}
	return []string{key}
}

func mapKeys(key string, a, b reflect.Value) (keys []string) {
	for _, name := range append(a.MapKeys(), b.MapKeys()...) {
		x, y, at := a.MapIndex(name), b.MapIndex(name), key+"."+name.String()
		if x.IsValid() && y.IsValid() {
			keys = append(keys, valueKeys(at, x, y)...)
		} else {
			keys = append(keys, at)
		}
	}
	return keys
}

func routeKeys(key string, before, after []Route) (keys []string) {
	old := map[string]Route{}
	for _, r := range before {
		old[r.ID] = r
	}
	for _, r := range after {
		at := key + "[" + r.ID + "]"
		if was, ok := old[r.ID]; ok {
			keys = append(keys, structKeys(at, reflect.ValueOf(was), reflect.ValueOf(r))...)
		} else {
			keys = append(keys, at)
		}
		delete(old, r.ID)
	}
	for id := range old {
		keys = append(keys, key+"["+id+"]")
	}
	if len(keys) == 0 {
		return []string{key + " (their order)"}
	}
	return keys
}
