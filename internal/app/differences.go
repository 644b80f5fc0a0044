package app

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// differences are the YAML keys in which two values of one type differ, down to
// the single value: `issuer.keys.rotate_every`, `gateway.routes[2].scopes`. An
// element that only one side has is named itself.
func differences(prefix string, old, new any) []string {
	var keys []string
	compare(prefix, reflect.ValueOf(old), reflect.ValueOf(new), &keys)
	return keys
}

func compare(key string, old, new reflect.Value, keys *[]string) {
	switch {
	case old.Kind() == reflect.Pointer && !old.IsNil() && !new.IsNil():
		compare(key, old.Elem(), new.Elem(), keys)
	case old.Kind() == reflect.Struct:
		for i := range old.NumField() {
			name, _, _ := strings.Cut(old.Type().Field(i).Tag.Get("yaml"), ",")
			if name != "" && name != "-" {
				compare(strings.TrimPrefix(key+"."+name, "."), old.Field(i), new.Field(i), keys)
			}
		}
	case old.Kind() == reflect.Map:
		compareMaps(key, old, new, keys)
	case old.Kind() == reflect.Slice && old.Type().Elem().Kind() == reflect.Struct:
		for i := range max(old.Len(), new.Len()) {
			at := fmt.Sprintf("%s[%d]", key, i)
			if i >= old.Len() || i >= new.Len() {
				*keys = append(*keys, at)
				continue
			}
			compare(at, old.Index(i), new.Index(i), keys)
		}
	case !reflect.DeepEqual(old.Interface(), new.Interface()):
		*keys = append(*keys, key)
	}
}

func compareMaps(key string, old, new reflect.Value, keys *[]string) {
	names := map[string]reflect.Value{}
	for _, m := range []reflect.Value{old, new} {
		for _, k := range m.MapKeys() {
			names[k.String()] = k
		}
	}
	var sorted []string
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	for _, name := range sorted {
		before, after := old.MapIndex(names[name]), new.MapIndex(names[name])
		if !before.IsValid() || !after.IsValid() {
			*keys = append(*keys, key+"."+name)
			continue
		}
		compare(key+"."+name, before, after, keys)
	}
}
