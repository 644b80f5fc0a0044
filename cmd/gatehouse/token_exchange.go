package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newTokenExchange(p *program) *cobra.Command {
	f := &tokenFlags{program: p}
	var actor string
	c := &cobra.Command{
		Use:   "exchange",
		Short: "Trade a token for one that opens another API in the same name (RFC 8693)",
		Long: `Trades an access token that was presented to the client for one that opens another
API in the name of the same subject, and prints nothing but the new token. Who may
do so is said by issuer.token_exchange; the client needs the grant
urn:ietf:params:oauth:grant-type:token-exchange. Tokens are read from standard
input or files; they are no arguments, for those are seen by every process of the
machine.`,
		Example: `  echo "$TOKEN" | gatehouse token exchange --client svc --secret-file svc.secret --resource https://profile.example
  gatehouse token exchange --client svc --secret-file svc.secret --token-file got --actor-token-file own --resource https://profile.example --scope read:profile`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.checkExchange(actor); err != nil {
				return err
			}
			subject, err := readSecret(cmd, f.file)
			if err != nil {
				return fmt.Errorf("reading the token: %w", err)
			}
			acting := ""
			if actor != "" {
				if acting, err = readSecret(cmd, actor); err != nil {
					return fmt.Errorf("reading the actor's token: %w", err)
				}
			}
			client, err := f.connect(cmd)
			if err != nil {
				return err
			}
			tokens, err := client.Exchange(cmd.Context(), subject, acting, f.scopes, f.resource)
			if err != nil {
				return err
			}
			return f.print(cmd, tokens)
		},
	}
	f.register(c)
	f.registerRequest(c)
	f.registerOutput(c)
	c.Flags().StringVar(&f.file, "token-file", "-", "the file with the token to trade; - is standard input")
	c.Flags().StringVar(&actor, "actor-token-file", "", "the file with a token of the client itself, to be named as who acts; - is standard input")
	return c
}

// checkExchange wants what every exchange needs, and each secret from a place
// of its own.
func (f *tokenFlags) checkExchange(actor string) error {
	fromInput := 0
	for _, file := range []string{f.file, f.secret, actor} {
		if file == "-" {
			fromInput++
		}
	}
	switch {
	case fromInput > 1:
		return usage("more than one secret or token would come from standard input: name files for the others")
	case f.secret == "":
		return usage("--secret-file is missing: it holds the client's secret (- for standard input)")
	case f.resource == "":
		return usage("--resource is missing: it names the API that the new token is for")
	}
	return nil
}
