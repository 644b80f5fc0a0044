package token_test

import (
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/token"
)

func TestCheckObject(t *testing.T) {
	const most = 1 << 10
	for name, text := range map[string]string{
		"a member twice":          `{"a":1,"a":2}`,
		"twice once unescaped":    `{"a":1,"\u0061":2}`,
		"twice further in":        `{"k":[{"a":1,"a":2}]}`,
		"something behind":        `{} {}`,
		"no object":               `[]`,
		"nothing":                 ``,
		"not UTF-8":               "{\"a\":\"\xff\"}",
		"a lone surrogate":        `{"a":"\ud800"}`,
		"too deep":                strings.Repeat(`{"a":`, 17) + `1` + strings.Repeat(`}`, 17),
		"one byte beyond":         `{"a":"` + strings.Repeat("x", most-7) + `"}`,
		"a number for no double":  `{"a":1e999}`,
		"a comma before the end":  `{"a":1,}`,
		"a comment":               `{"a":1/**/}`,
		"a name without its mark": `{a:1}`,
	} {
		if err := token.CheckObject(text, most); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	for _, text := range []string{`{}`, ` {"a":{"a":[1,"a",null,true]},"A":-0.5e3} `, `{"a":"` + strings.Repeat("x", most-8) + `"}`} {
		if err := token.CheckObject(text, most); err != nil {
			t.Errorf("%.40s: %v", text, err)
		}
	}
}
