package authz

import "strings"

const hexDigits = "0123456789ABCDEF"

// encodeValue makes a claim safe as the whole value of a header: controls,
// non-ASCII bytes, the per cent sign (so that decoding is unambiguous) and
// spaces at the ends (which HTTP trims) are percent-encoded.
func encodeValue(s string) string { return percent(s, false) }

// encodeItem is encodeValue for one item of a list, where commas and spaces
// separate: none of its own remain.
func encodeItem(s string) string { return percent(s, true) }

// encodeList joins items with a separator; items that say nothing are left out.
func encodeList(items []string, separator string) string {
	var b strings.Builder
	for _, item := range items {
		if item == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(separator)
		}
		b.WriteString(encodeItem(item))
	}
	return b.String()
}

func percent(s string, item bool) string {
	if clean(s, item) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		atEnd := i == 0 || i == len(s)-1
		if safe(c, item) && (c != ' ' || !atEnd) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String()
}

func clean(s string, item bool) bool {
	for i := range len(s) {
		if !safe(s[i], item) {
			return false
		}
	}
	return s == "" || s[0] != ' ' && s[len(s)-1] != ' '
}

func safe(c byte, item bool) bool {
	if c < 0x20 || c > 0x7e || c == '%' {
		return false
	}
	return !item || c != ',' && c != ' '
}
