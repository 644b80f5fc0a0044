package app

import (
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed scaffold/banner.txt
var bannerText string

var bannerTemplate = template.Must(template.New("banner").Parse(bannerText))

// banner is what its template fills in; the paths are relative to the folder
// that the program was started in.
type banner struct {
	Sample                   bool
	URL, Program, Config, CA string
	Robot, Secret            string
	CLI, User, Password      string
}

// printBanner says where everything is and what to try, in commands that work
// as they are printed, where the program was started.
func (s *site) printBanner(w io.Writer) error {
	c := s.config
	program, err := os.Executable()
	if err != nil {
		program = "gatehouse"
	}
	err = bannerTemplate.Execute(w, banner{
		Sample: s.options.Sample, URL: strings.TrimSuffix(c.Gateway.PublicURL, "/"),
		Program: shown(program), Config: shown(c.Path()), CA: shown(string(c.CA())),
		Robot: sampleRobot, Secret: shown(string(c.sampleSecret(sampleRobot + ".secret"))),
		CLI: sampleCLI, User: sampleUser, Password: shown(string(c.sampleSecret(sampleUser + ".password"))),
	})
	if err != nil {
		return fmt.Errorf("printing the banner: %w", err)
	}
	return nil
}

// shown is a path as somebody would type it here, quoted for the shell where it
// has to be.
func shown(path string) string {
	if here, err := os.Getwd(); err == nil && filepath.IsAbs(path) {
		if relative, err := filepath.Rel(here, path); err == nil && !strings.HasPrefix(relative, "..") {
			path = relative
		}
	}
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
