package clients

import (
	"testing"

	"github.com/chromedp/chromedp"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// A device shows a code; a person brings it in a real browser, sees who asks for
// what, and the device gets tokens that only it can use.
func TestDevice(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	alice := s.AddUser(t, "alice", "customer")
	args := []string{"client", "add", "--id", "tv", "--name", "The Television", "--type", "native",
		"--grant", "urn:ietf:params:oauth:grant-type:device_code", "--grant", "refresh_token"}
	for _, scope := range scopes {
		args = append(args, "--scope", scope)
	}
	s.CLI(t, args...)
	p := person{t, s.Chromium(t)}
	var got struct {
		Code, Type            string
		Opened, Again, Stolen int
	}
	connect := func(address string) {
		p.run(chromedp.Navigate(address))
		p.logIn("alice", alice.Password)
		p.run(chromedp.WaitVisible(chromedp.CSS("#user_code")))
		p.show("device")
		p.run(chromedp.Click(chromedp.CSS("button")), chromedp.WaitVisible(chromedp.CSS(`button[value=allow]`)))
		p.show("device-consent")
		p.run(chromedp.Click(chromedp.CSS(`button[value=allow]`)), chromedp.WaitNotPresent(chromedp.CSS("form")))
		p.show("device-connected")
	}
	run(t, s, connect, &got, settingsOf(s, harness.Client{ID: "tv"}, ""), "node", "node/device.mjs")
	if got.Type != "dpop" || got.Opened != 200 || got.Again != 200 || got.Stolen != 401 || len(got.Code) < 8 {
		t.Errorf("the device found %+v", got)
	}
}
