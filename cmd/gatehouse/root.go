package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/internal/app"
)

// usageError is a command line that cannot be understood: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(text string) error { return usageError{errors.New(text)} }

// program is what every command shares.
type program struct {
	config string
}

func (p *program) load() (*app.Config, error) {
	config, err := app.Load(p.config)
	if _, invalid := errors.AsType[*app.Invalid](err); invalid {
		return nil, fmt.Errorf("the configuration is not valid:\n%w", err)
	}
	return config, err
}

func newRoot() *cobra.Command {
	p := &program{}
	root := &cobra.Command{
		Use:   "gatehouse",
		Short: "The front gate of your services: logins, tokens, and an Envoy that checks them",
		Long: `Gatehouse is an OpenID Connect issuer, an authorizer that checks every request,
and a control plane that tells Envoy what to do. One file, gatehouse.yaml,
configures all of it.`,
		Example: `  gatehouse init mygate
  gatehouse run --config mygate/gatehouse.yaml`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().StringVarP(&p.config, "config", "c", "gatehouse.yaml", "the configuration file")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run it:"},
		&cobra.Group{ID: "site", Title: "Set it up:"},
		&cobra.Group{ID: "admin", Title: "Administer the issuer:"},
		&cobra.Group{ID: "trust", Title: "Administer workloads and their CA:"},
		&cobra.Group{ID: "use", Title: "Use it:"},
	)
	add(root, "run", newRun(p), newPart(p, app.Issuer), newPart(p, app.Authz), newPart(p, app.RateLimit), newPart(p, app.ControlPlane), newEnvoy(p), newSidecar())
	add(root, "site", newInit(), newValidate(p), newPolicies(p))
	add(root, "admin", newClient(p), newUser(p), newGroup(p), newSession(p), newConsent(p), newKeys(p), newAudit(p), newStore(p), newExport(p), newImport(p))
	add(root, "trust", newWorkload(p), newCA(p))
	add(root, "use", newToken(p), newUsage(p), newVersion())
	markUsage(root)
	return root
}

func add(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		root.AddCommand(c)
	}
}

// parent is a command that only holds others.
func parent(use, short, long, example string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.Help()
			return usage("which one? choose a command of the list above")
		},
	}
	c.AddCommand(children...)
	return c
}

// markUsage makes what cobra finds wrong with flags and arguments usage errors.
func markUsage(c *cobra.Command) {
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		// One key id in 64 begins with a dash.
		if strings.HasPrefix(err.Error(), "unknown shorthand flag") {
			err = fmt.Errorf("%w (an argument that begins with - goes after --)", err)
		}
		return usageError{err}
	})
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{meant(cmd, args, err)}
			}
			return nil
		}
	}
	for _, child := range c.Commands() {
		markUsage(child)
	}
}

// meant adds to the refusal of an unknown command those that it is nearly.
func meant(cmd *cobra.Command, args []string, err error) error {
	if len(args) == 0 || !cmd.HasSubCommands() {
		return err
	}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("%w: did you mean %s?", err, strings.Join(near, " or "))
	}
	return err
}
