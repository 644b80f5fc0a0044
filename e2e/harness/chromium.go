package harness

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// Chromium starts a real browser, without a window, that takes the gate's own
// key beside the certificates of the system. Its context ends with the test.
func (s *System) Chromium(t testing.TB) context.Context {
	t.Helper()
	profile := filepath.Join(s.Dir, "chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.UserDataDir(profile),
		chromedp.NoSandbox,
		chromedp.Flag("ignore-certificate-errors-spki-list", s.pin(t)),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Env(marker+"="+s.Dir),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	browser, closeBrowser := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		limited, cancel := context.WithTimeout(browser, 10*time.Second)
		defer cancel()
		chromedp.Cancel(limited) // waits for the process
		closeBrowser()
		stop()
	})
	if err := chromedp.Do(browser); err != nil { // starts it
		t.Fatalf("starting Chromium: %v", err)
	}
	limited, cancel := context.WithTimeout(browser, 2*time.Minute)
	t.Cleanup(cancel)
	return limited
}

// pin is the hash of the key that the gate's certificate is for.
func (s *System) pin(t testing.TB) string {
	t.Helper()
	conn, err := tls.Dial("tcp", s.Gateway(), s.TLS(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	certificate := conn.ConnectionState().PeerCertificates[0]
	sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Screenshot keeps what the browser shows in artifacts/screenshots.
func Screenshot(t testing.TB, browser context.Context, name string) {
	t.Helper()
	picture, err := chromedp.Run(browser, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatalf("taking the screenshot %s: %v", name, err)
	}
	into := filepath.Join(Root(), "artifacts", "screenshots")
	if err := os.MkdirAll(into, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(into, name+".png"), picture, 0o644); err != nil {
		t.Fatal(err)
	}
}
