package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/internal/oauthclient"
	"gatehouse.dev/gatehouse/internal/whole"
)

func newTokenInspect() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "inspect",
		Short: "Show what is written in a token, WITHOUT verifying it",
		Long: `Shows the header and the claims of a token. Nothing is verified: anybody can write
a token that says anything. It is for looking at a token, never for trusting it.`,
		Example: `  echo "$TOKEN" | gatehouse token inspect`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			token, err := readSecret(cmd, file)
			if err != nil {
				return fmt.Errorf("reading the token: %w", err)
			}
			shown, err := decodeToken(token)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.ErrOrStderr(), "NOT VERIFIED: anybody can write a token that says this.")
			fmt.Fprintln(cmd.OutOrStdout(), shown)
			return nil
		},
	}
	c.Flags().StringVar(&file, "token-file", "-", "the file with the token; - is standard input")
	return c
}

// decodeToken is the header and the claims of a compact JWS, indented.
func decodeToken(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", fmt.Errorf("this is no access token: it has %d parts, not 3", len(parts))
	}
	var shown []string
	for _, part := range parts[:2] {
		raw, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			return "", errors.New("this is no access token: it is not base64url")
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, raw, "", "  "); err != nil {
			return "", errors.New("this is no access token: it holds no JSON")
		}
		shown = append(shown, indented.String())
	}
	return strings.Join(shown, "\n"), nil
}

// print shows the access token, or writes the whole answer into --output.
func (f *tokenFlags) print(cmd *cobra.Command, tokens oauthclient.Tokens) error {
	if f.output == "" {
		fmt.Fprintln(cmd.OutOrStdout(), tokens.AccessToken)
		return nil
	}
	content, err := json.MarshalIndent(tokens, "", "  ")
	if err != nil {
		return err
	}
	if err := whole.WriteFile(f.output, append(content, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing --output: %w", err)
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "The tokens are in", f.output)
	return nil
}
