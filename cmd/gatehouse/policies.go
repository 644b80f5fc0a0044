package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/policies"
)

func newPolicies(p *program) *cobra.Command {
	return parent("policies", "Test Rego policies as the gateway runs them",
		`Works with the policies of the security team.`,
		`  gatehouse policies test policies`,
		newPoliciesTest(p))
}

func newPoliciesTest(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "test [DIR]",
		Short: "Run the tests (*_test.rego) of a folder of policies",
		Long: `Runs the tests in *_test.rego below DIR (default: the policies of the
configuration), in the language and with the functions that policies have in the
gateway, and the tests of the built-in scope policy with them.`,
		Example: `  gatehouse policies test mygate/policies`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := p.policiesDir(args)
			if err != nil {
				return err
			}
			results, err := policies.RunTests(cmd.Context(), dir)
			if err != nil {
				return err
			}
			return report(cmd, results)
		},
	}
}

func (p *program) policiesDir(args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	config, err := p.load()
	if err != nil {
		return "", err
	}
	return string(config.Policies), nil
}

func report(cmd *cobra.Command, results []policies.TestResult) error {
	passed, failed := 0, 0
	for _, r := range results {
		switch r.Outcome {
		case policies.TestPassed:
			passed++
		default:
			failed++
			fmt.Fprintf(cmd.OutOrStdout(), "%s:%d: %s: %s: %s\n", r.File, r.Line, r.Name, r.Outcome, r.Detail)
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		return fmt.Errorf("%d of the policies' tests failed", failed)
	}
	return nil
}
