package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/internal/app"
	"gatehouse.dev/gatehouse/internal/whole"
)

func newCA(p *program) *cobra.Command {
	return parent("ca", "Keep the root of the workload CA apart, and replace it",
		`Looks after the CA that workloads get their certificates of. Its root signs nothing
but intermediates, and its key can be kept offline; without these commands it is
made in data_dir/ca, which is right for development only.`,
		`  gatehouse ca init --root-dir /media/stick/root
  gatehouse ca bundle`,
		newCAInit(p), newCAIntermediate(p), newCASign(), newCABundle(p), newCARotate(p))
}

func newCAInit(p *program) *cobra.Command {
	var rootDir, certificate string
	c := &cobra.Command{
		Use:   "init",
		Short: "Give a new site a root that is kept apart",
		Long: `Makes a root in a folder of its own (ca.crt and ca.key, 0600), or takes the one that is
there, and a first intermediate for the site. The folder can be taken away then.
With --certificate, the roots in a PEM file are trusted instead: for
controlplane.ca.signer_command.`,
		Example: `  gatehouse ca init --root-dir /media/stick/root`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if (rootDir == "") == (certificate == "") {
				return usage("write either --root-dir DIR or --certificate FILE")
			}
			config, err := p.load()
			if err != nil {
				return err
			}
			if certificate != "" {
				return config.InitForeignCA(certificate)
			}
			return config.InitCA(rootDir, time.Now())
		},
	}
	c.Flags().StringVar(&rootDir, "root-dir", "", "the folder of the root; made if missing")
	c.Flags().StringVar(&certificate, "certificate", "", "a PEM file of somebody else's roots")
	return c
}

func newCAIntermediate(p *program) *cobra.Command {
	var out string
	request := &cobra.Command{
		Use:   "request",
		Short: "Ask for a new intermediate, where the root's key is not here",
		Long: `Makes a key, which stays in data_dir, and writes the request that the root shall sign.
What issues now goes on until the answer is installed.`,
		Example: `  gatehouse ca intermediate request --out gate.csr`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if out == "" {
				return usage("--out is missing: it names the file of the request")
			}
			config, err := p.load()
			if err != nil {
				return err
			}
			text, err := config.RequestIntermediate()
			if err != nil {
				return err
			}
			return whole.WriteFile(out, text, 0o644)
		},
	}
	request.Flags().StringVar(&out, "out", "", "the file that the request is written into")
	return parent("intermediate", "Ask an offline root for an intermediate, and install it",
		`For a root whose key is not in data_dir: request here, `+"`gatehouse ca sign`"+` where the root is,
install here. An intermediate that is past half its life is told of in the log.`,
		`  gatehouse ca intermediate request --out gate.csr
  gatehouse ca sign --root-dir /media/stick/root --request gate.csr --out gate.crt
  gatehouse ca intermediate install gate.crt`,
		request, &cobra.Command{
			Use:   "install FILE",
			Short: "Put a signed intermediate into use",
			Long: `Verifies the answer to the last request, and issues with it from now on. What the last
one issued stays good.`,
			Example: `  gatehouse ca intermediate install gate.crt`,
			Args:    cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				config, err := p.load()
				if err != nil {
					return err
				}
				answer, err := readSmall(args[0])
				if err != nil {
					return err
				}
				return plain(config.InstallIntermediate(cmd.Context(), answer))
			},
		})
}

func newCASign() *cobra.Command {
	var rootDir, request, out string
	var life time.Duration
	c := &cobra.Command{
		Use:   "sign",
		Short: "Sign a request for an intermediate with an offline root",
		Long: `Signs what ` + "`gatehouse ca intermediate request`" + ` asked for. It needs no configuration: it
runs where the root is.`,
		Example: `  gatehouse ca sign --root-dir /media/stick/root --request gate.csr --out gate.crt`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if rootDir == "" || request == "" || out == "" {
				return usage("write --root-dir DIR, --request FILE and --out FILE")
			}
			if life <= 0 {
				return usage("--life must be more than nothing")
			}
			text, err := readSmall(request)
			if err != nil {
				return err
			}
			answer, err := app.SignIntermediate(rootDir, text, life)
			if err != nil {
				return err
			}
			return whole.WriteFile(out, answer, 0o644)
		},
	}
	f := c.Flags()
	f.StringVar(&rootDir, "root-dir", "", "the folder of the root")
	f.StringVar(&request, "request", "", "the file of the request")
	f.StringVar(&out, "out", "", "the file that the answer is written into")
	f.DurationVar(&life, "life", 90*24*time.Hour, "how long the intermediate lives")
	return c
}

func newCABundle(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "bundle",
		Short: "Print the trust bundle in the SPIFFE bundle format",
		Long: `Prints what other trust domains verify this one's workloads with: the roots as a JWK
set (SPIFFE Trust Domain and Bundle). The control plane serves the same at /bundle
of its telemetry address. In PEM, it is data_dir/ca/ca.crt.`,
		Example: `  gatehouse ca bundle`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := p.load()
			if err != nil {
				return err
			}
			text, err := config.Bundle(cmd.Context())
			if err == nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", text)
			}
			return plain(err)
		},
	}
}

// maxSmall bounds what is read of a request or a certificate.
const maxSmall = 64 << 10

func readSmall(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSmall+1))
	if err == nil && len(text) > maxSmall {
		err = fmt.Errorf("%s has more than %d bytes: is it the right file?", path, maxSmall)
	}
	return text, err
}
