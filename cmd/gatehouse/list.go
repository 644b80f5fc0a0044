package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// output is how what was found is shown: a table, or JSON for programs.
type output struct{ json bool }

func (o *output) flag(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&o.json, "json", false, "write one JSON object a line")
	return c
}

// writeJSON writes a message as one line of JSON, with the names of the
// protocol.
func writeJSON(w io.Writer, m proto.Message) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	// protojson varies its spaces on purpose; programs that compare lines
	// should not mind.
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil {
		return err
	}
	line.WriteByte('\n')
	_, err = line.WriteTo(w)
	return err
}

// listing shows records as they come, page by page.
type listing[T proto.Message] struct {
	out  *output
	head []string
	row  func(T) []string
	rows [][]string
}

func (l *listing[T]) add(cmd *cobra.Command, records []T) error {
	for _, r := range records {
		if l.out.json {
			if err := writeJSON(cmd.OutOrStdout(), r); err != nil {
				return err
			}
			continue
		}
		l.rows = append(l.rows, l.row(r))
	}
	return nil
}

func (l *listing[T]) end(cmd *cobra.Command) error {
	if l.out.json {
		return nil
	}
	return table(cmd, append([][]string{l.head}, l.rows...))
}

// pages calls fetch until there is no next page.
func pages(fetch func(after string) (next string, err error)) error {
	for after := ""; ; {
		next, err := fetch(after)
		if err != nil || next == "" {
			return err
		}
		after = next
	}
}

// show writes one record: as JSON, or as lines of key and value; what is empty
// is left out.
func (o *output) show(cmd *cobra.Command, m proto.Message, pairs [][2]string) error {
	if o.json {
		return writeJSON(cmd.OutOrStdout(), m)
	}
	var rows [][]string
	for _, pair := range pairs {
		if pair[1] != "" {
			rows = append(rows, pair[:])
		}
	}
	return table(cmd, rows)
}

// attributes are shown as they are typed, by name.
func attributes(values map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		all = append(all, name+"="+values[name])
	}
	return list(all)
}

func list(values []string) string { return strings.Join(values, ",") }

// changedFields are the fields whose flags were given, each once.
func changedFields(cmd *cobra.Command, fields map[string]string) (paths []string) {
	for flag, field := range fields {
		if cmd.Flags().Changed(flag) {
			paths = append(paths, field)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// standing are the flags --enable and --disable of an update.
type standing struct{ enable, disable bool }

func (s *standing) flags(c *cobra.Command, loses string) {
	c.Flags().BoolVar(&s.enable, "enable", false, "let it be used again")
	c.Flags().BoolVar(&s.disable, "disable", false, "refuse it from now on, and "+loses)
}

// paths are the fields to change, which must be some.
func (s *standing) paths(cmd *cobra.Command, fields map[string]string) ([]string, error) {
	if s.enable && s.disable {
		return nil, usage("--enable and --disable contradict each other")
	}
	paths := changedFields(cmd, fields)
	if s.enable || s.disable {
		paths = append(paths, "disabled")
	}
	if len(paths) == 0 {
		return nil, usage("say what to change, with one flag at least")
	}
	return paths, nil
}
