package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func newCARotate(p *program) *cobra.Command {
	return parent("rotate-root", "Replace the root in three steps that lose no request",
		`Replaces the root of the workload CA. First everybody learns the new one (add), then it
issues (issue), and when nothing that leads to the old one is in use, nobody trusts
that any more (drop).`,
		`  gatehouse ca rotate-root add --root-dir /media/stick/root2
  gatehouse ca rotate-root issue --root-dir /media/stick/root2
  gatehouse ca rotate-root drop`,
		newRotateAdd(p), newRotateIssue(p), newRotateDrop(p))
}

func newRotateAdd(p *program) *cobra.Command {
	var rootDir, certificate string
	c := &cobra.Command{
		Use:   "add",
		Short: "Put a new root into the trust bundle",
		Long: `Makes a new root in --root-dir, or in data_dir/ca without it, and puts it into the trust
bundle beside the old one, which goes on issuing. Every Envoy and part that watches
learns it at once.`,
		Example: `  gatehouse ca rotate-root add --root-dir /media/stick/root2`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if rootDir != "" && certificate != "" {
				return usage("write --root-dir or --certificate, not both")
			}
			config, err := p.load()
			if err != nil {
				return err
			}
			root, err := config.AddRoot(cmd.Context(), rootDir, certificate)
			if err != nil {
				return plain(err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "added", root.Subject.CommonName, "until", root.NotAfter.UTC().Format(time.DateOnly))
			return nil
		},
	}
	c.Flags().StringVar(&rootDir, "root-dir", "", "the folder that the new root is made in; none: data_dir/ca")
	c.Flags().StringVar(&certificate, "certificate", "", "a PEM file with the new root of an external signer")
	return c
}

func newRotateIssue(p *program) *cobra.Command {
	var rootDir string
	var force bool
	c := &cobra.Command{
		Use:   "issue",
		Short: "Let the new root issue",
		Long: `Makes an intermediate under the new root, and renews the certificates in files. It is
refused while somebody who watches does not trust the new root yet. The old root's
key, if it is in data_dir/ca, is deleted.`,
		Example: `  gatehouse ca rotate-root issue --root-dir /media/stick/root2`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := p.load()
			if err != nil {
				return err
			}
			if err := config.UseRoot(cmd.Context(), rootDir, force); err != nil {
				return plain(err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the new root issues; what the old one vouches for is good until `gatehouse ca rotate-root drop`")
			return nil
		},
	}
	c.Flags().StringVar(&rootDir, "root-dir", "", "the folder of the new root, as it was given to add")
	c.Flags().BoolVar(&force, "force", false, "do it though somebody does not trust the new root yet, who will lose connections")
	return c
}

func newRotateDrop(p *program) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "drop",
		Short: "Trust the old root no more",
		Long: `Takes the old root out of the trust bundle. It is refused while a workload has a
certificate that leads to it. Certificates in files of other machines are not known
here: their parts renew them within an hour of issue.`,
		Example: `  gatehouse ca rotate-root drop`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := p.load()
			if err != nil {
				return err
			}
			if err := config.DropRoot(cmd.Context(), force); err != nil {
				return plain(err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the old root is trusted no more")
			return nil
		},
	}
	c.Flags().BoolVar(&force, "force", false, "do it at once: for a root whose key leaked")
	return c
}
