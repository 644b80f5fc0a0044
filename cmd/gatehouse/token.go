package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/internal/oauthclient"
)

// tokenFlags say to whom, and for whom, a token command speaks.
type tokenFlags struct {
	program          *program
	issuer, ca       string
	client, secret   string
	scopes           []string
	resource, output string
	file             string
	timeout          time.Duration
}

func newToken(p *program) *cobra.Command {
	return parent("token", "Get, revoke and look at access tokens",
		`Gets tokens from the issuer of the configuration, as any client would, and revokes
them. With --issuer (and --ca) no configuration is needed.`,
		`  gatehouse token get --client robot --secret-file robot.secret --scope read:orders
  gatehouse token login --client cli --scope read:orders`,
		newTokenGet(p), newTokenLogin(p), newTokenExchange(p), newTokenRevoke(p), newTokenInspect())
}

func newTokenGet(p *program) *cobra.Command {
	f := &tokenFlags{program: p}
	var device bool
	c := &cobra.Command{
		Use:   "get",
		Short: "Get a token for a program, or for a person by a code (--device)",
		Long: `Gets an access token for a client itself, by its secret, and prints nothing but the
token.

With --device the token is a person's, who has a browser elsewhere: a code and an
address are shown, and once the person has brought the code there and allowed it,
the token is printed (RFC 8628).`,
		Example: `  TOKEN=$(gatehouse token get --client robot --secret-file robot.secret --scope read:orders)
  gatehouse client add --id tv --type native --grant urn:ietf:params:oauth:grant-type:device_code --scope read:orders
  TOKEN=$(gatehouse token get --device --client tv --scope read:orders)`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.secret == "" && !device {
				return usage("--secret-file is missing: it holds the client's secret (- for standard input); or use --device")
			}
			client, err := f.connect(cmd)
			if err != nil {
				return err
			}
			get := f.clientCredentials
			if device {
				get = f.device
			}
			tokens, err := get(cmd, client)
			if err != nil {
				return err
			}
			return f.print(cmd, tokens)
		},
	}
	f.register(c)
	f.registerRequest(c)
	f.registerOutput(c)
	c.Flags().BoolVar(&device, "device", false, "show a code that a person brings to the issuer, and wait for them")
	return c
}

func (f *tokenFlags) clientCredentials(cmd *cobra.Command, client *oauthclient.Client) (oauthclient.Tokens, error) {
	return client.ClientCredentials(cmd.Context(), f.scopes, f.resource)
}

func (f *tokenFlags) device(cmd *cobra.Command, client *oauthclient.Client) (oauthclient.Tokens, error) {
	return client.Device(cmd.Context(), f.scopes, f.resource, func(d oauthclient.DeviceCode) {
		fmt.Fprintf(cmd.ErrOrStderr(), "Open this in any browser, and bring the code %s there:\n\n  %s\n\n", d.UserCode, d.URI)
		if d.Complete != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "With the code in it, to compare:\n\n  %s\n\n", d.Complete)
		}
	})
}

func newTokenLogin(p *program) *cobra.Command {
	f := &tokenFlags{program: p}
	c := &cobra.Command{
		Use:   "login",
		Short: "Log in as a person, in a browser, and print the token",
		Long: `Prints a URL to open in a browser on this machine, waits on loopback until you have
logged in there, and prints nothing but the access token. Nothing is stored unless
--output names a file. The client is a native one with the redirect URI
http://127.0.0.1/callback.`,
		Example: `  gatehouse client add --id cli --type native --scope openid --scope read:orders
  TOKEN=$(gatehouse token login --client cli --scope read:orders)`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := f.connect(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			tokens, err := client.Login(ctx, f.scopes, f.resource, func(url string) {
				fmt.Fprintf(cmd.ErrOrStderr(), "Open this in a browser on this machine, and log in:\n\n  %s\n\n", url)
			})
			if errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("nobody logged in within %s: try again, or raise --timeout", f.timeout)
			}
			if err != nil {
				return err
			}
			return f.print(cmd, tokens)
		},
	}
	f.register(c)
	f.registerRequest(c)
	f.registerOutput(c)
	c.Flags().DurationVar(&f.timeout, "timeout", 5*time.Minute, "how long to wait for the login")
	return c
}

func newTokenRevoke(p *program) *cobra.Command {
	f := &tokenFlags{program: p}
	c := &cobra.Command{
		Use:   "revoke",
		Short: "Revoke a token; every gateway refuses it within a second",
		Long: `Revokes an access or refresh token of the client. The token is read from standard
input or from --token-file; it is no argument, for those are seen by every process
of the machine.`,
		Example: `  echo "$TOKEN" | gatehouse token revoke --client robot --secret-file robot.secret`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.file == "-" && f.secret == "-" {
				return usage("both the secret and the token would come from standard input: name a file for one")
			}
			token, err := readSecret(cmd, f.file)
			if err != nil {
				return fmt.Errorf("reading the token: %w", err)
			}
			client, err := f.connect(cmd)
			if err != nil {
				return err
			}
			if err := client.Revoke(cmd.Context(), token); err != nil {
				return err
			}
			fmt.Fprintln(cmd.ErrOrStderr(), "revoked")
			return nil
		},
	}
	f.register(c)
	c.Flags().StringVar(&f.file, "token-file", "-", "the file with the token; - is standard input")
	return c
}

func (f *tokenFlags) register(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.client, "client", "", "the client's id")
	flags.StringVar(&f.secret, "secret-file", "", "the file with the client's secret; - is standard input")
	flags.StringVar(&f.issuer, "issuer", "", "the issuer (default: that of the configuration)")
	flags.StringVar(&f.ca, "ca", "", "a file of certificates to trust beside the system's (default: the development CA of the configuration)")
}

func (f *tokenFlags) registerRequest(c *cobra.Command) {
	flags := c.Flags()
	flags.StringArrayVar(&f.scopes, "scope", nil, "a scope to ask for; may be repeated")
	flags.StringVar(&f.resource, "resource", "", "the API that the token is for (RFC 8707; default: what the scopes belong to)")
}

func (f *tokenFlags) registerOutput(c *cobra.Command) {
	c.Flags().StringVar(&f.output, "output", "", "write the issuer's whole answer into this file (0600), as JSON")
}

// connect finds the issuer.
func (f *tokenFlags) connect(cmd *cobra.Command) (*oauthclient.Client, error) {
	if f.client == "" {
		return nil, usage("--client is missing: it names the client")
	}
	if err := f.complete(); err != nil {
		return nil, err
	}
	config := oauthclient.Config{Issuer: f.issuer, ID: f.client}
	var err error
	if f.ca != "" {
		if config.Roots, err = os.ReadFile(f.ca); err != nil {
			return nil, fmt.Errorf("reading the certificates to trust: %w", err)
		}
	}
	if f.secret != "" {
		if config.Secret, err = readSecret(cmd, f.secret); err != nil {
			return nil, fmt.Errorf("reading the client's secret: %w", err)
		}
	}
	return oauthclient.Discover(cmd.Context(), config)
}

// complete takes from the configuration what no flag says.
func (f *tokenFlags) complete() error {
	if f.issuer != "" {
		return nil
	}
	config, err := f.program.load()
	if err != nil {
		return err
	}
	if config.Issuer == nil {
		return fmt.Errorf("%s has no issuer: name one with --issuer", config.Path())
	}
	f.issuer = config.Issuer.URL
	if f.ca == "" {
		if _, err := os.Stat(string(config.CA())); !errors.Is(err, fs.ErrNotExist) {
			f.ca = string(config.CA())
		}
	}
	return nil
}
