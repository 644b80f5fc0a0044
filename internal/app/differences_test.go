package app

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDifferences(t *testing.T) {
	type leaf struct {
		A int      `yaml:"a"`
		B []string `yaml:"b"`
	}
	type tree struct {
		Leaf    leaf            `yaml:"leaf"`
		Named   map[string]leaf `yaml:"named"`
		List    []leaf          `yaml:"list"`
		Pointer *leaf           `yaml:"pointer"`
		Hidden  int             `yaml:"-"`
	}
	base := func() tree {
		return tree{
			Leaf: leaf{A: 1, B: []string{"x"}}, Named: map[string]leaf{"n": {A: 1}, "m": {}},
			List: []leaf{{A: 1}, {A: 2}}, Pointer: &leaf{A: 1},
		}
	}
	for name, row := range map[string]struct {
		edit func(*tree)
		want []string
	}{
		"nothing":           {func(*tree) {}, nil},
		"a value":           {func(x *tree) { x.Leaf.A = 2 }, []string{"t.leaf.a"}},
		"a list of values":  {func(x *tree) { x.Leaf.B = []string{"x", "y"} }, []string{"t.leaf.b"}},
		"inside a map":      {func(x *tree) { x.Named["n"] = leaf{A: 2} }, []string{"t.named.n.a"}},
		"a map's key":       {func(x *tree) { delete(x.Named, "m"); x.Named["o"] = leaf{} }, []string{"t.named.m", "t.named.o"}},
		"inside a list":     {func(x *tree) { x.List[1].A = 9 }, []string{"t.list[1].a"}},
		"a longer list":     {func(x *tree) { x.List = append(x.List, leaf{}) }, []string{"t.list[2]"}},
		"behind a pointer":  {func(x *tree) { x.Pointer = &leaf{A: 2} }, []string{"t.pointer.a"}},
		"a pointer gone":    {func(x *tree) { x.Pointer = nil }, []string{"t.pointer"}},
		"what is not in it": {func(x *tree) { x.Hidden = 2 }, nil},
	} {
		after := base()
		row.edit(&after)
		if diff := cmp.Diff(row.want, differences("t", base(), after)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
