package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
)

// secretFile is where a new secret goes. It is opened before the secret is
// made: one that cannot be written down would be lost.
type secretFile struct {
	path string
	file *os.File
}

// openSecretFile prepares path; an empty one means standard output.
func openSecretFile(path string) (*secretFile, error) {
	if path == "" {
		return &secretFile{}, nil
	}
	partial := path + ".partial"
	if err := os.Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("preparing the file of the secret: %w", err)
	}
	file, err := os.OpenFile(partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("preparing the file of the secret: %w", err)
	}
	return &secretFile{path: path, file: file}, nil
}

// write puts the secret into its file, or shows it this once.
func (s *secretFile) write(cmd *cobra.Command, secret string) error {
	if secret == "" {
		return s.discard()
	}
	if s.file == nil {
		fmt.Fprintln(cmd.OutOrStdout(), "secret", secret)
		fmt.Fprintln(cmd.ErrOrStderr(), "The secret is shown this once; only a hash of it is kept.")
		return nil
	}
	_, err := fmt.Fprintln(s.file, secret)
	if err = errors.Join(err, s.file.Close(), os.Rename(s.file.Name(), s.path)); err != nil {
		return fmt.Errorf("writing the file of the secret: %w", err)
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "The secret is in", s.path)
	return nil
}

// discard removes a prepared file that no secret came for.
func (s *secretFile) discard() error {
	if s.file == nil {
		return nil
	}
	return errors.Join(s.file.Close(), os.Remove(s.file.Name()))
}

// readSecret is the content of a file without its final newline; "-" is
// standard input.
func readSecret(cmd *cobra.Command, path string) (string, error) {
	if path == "-" {
		return firstLine(cmd.InOrStdin())
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	return firstLine(file)
}

// maxLine bounds what is read of a secret or a token.
const maxLine = 64 << 10

func firstLine(in io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(in, maxLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", errors.New("there is nothing to read")
	}
	return line, nil
}

// readPassword asks for a new password on a terminal, twice and without echo,
// or takes the first line of what is piped in. It is never an argument: those
// are seen by every process of the machine.
func readPassword(cmd *cobra.Command) (string, error) {
	terminal, ok := cmd.InOrStdin().(*os.File)
	if !ok || stty(terminal, "-g") != nil {
		password, err := firstLine(cmd.InOrStdin())
		if err != nil {
			return "", fmt.Errorf("reading the password from standard input: %w", err)
		}
		return password, nil
	}
	first, err := ask(cmd, terminal, "Password: ")
	if err != nil {
		return "", err
	}
	second, err := ask(cmd, terminal, "Once more: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ: nothing was changed")
	}
	return first, nil
}

// ask reads a line without echo, which comes back when the process is told to
// stop meanwhile, too.
func ask(cmd *cobra.Command, terminal *os.File, prompt string) (string, error) {
	fmt.Fprint(cmd.ErrOrStderr(), prompt)
	if err := stty(terminal, "-echo"); err != nil {
		return "", fmt.Errorf("turning the terminal's echo off: %w (pipe the password in instead)", err)
	}
	type answer struct {
		line string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		line, err := firstLine(terminal)
		answers <- answer{line, err}
	}()
	defer fmt.Fprintln(cmd.ErrOrStderr())
	defer stty(terminal, "echo")
	select {
	case <-cmd.Context().Done():
		return "", errors.New("interrupted: nothing was changed")
	case a := <-answers:
		if a.err != nil {
			return "", fmt.Errorf("reading the password: %w", a.err)
		}
		return a.line, nil
	}
}

func stty(terminal *os.File, setting string) error {
	command := exec.Command("stty", setting)
	command.Stdin = terminal
	return command.Run()
}
