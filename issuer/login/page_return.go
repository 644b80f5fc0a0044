package login

import (
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
)

// Return is how a browser goes back to its client.
type Return struct {
	// Location is where to: a proven redirect URI, with the answer in its query
	// unless there are Fields.
	Location string
	// Fields are posted to Location (OAuth 2.0 Form Post Response Mode §2);
	// nil: the browser is redirected.
	Fields url.Values
}

// submitReturn sends the form where scripts run; elsewhere it has a button.
const submitReturn = `document.getElementById("return").submit()`

var submitSource = func() string {
	sum := sha256.Sum256([]byte(submitReturn))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

// Leave sends the browser back to its client.
func (p *Pages) Leave(w http.ResponseWriter, r *http.Request, to Return) {
	if to.Fields == nil {
		see(w, to.Location)
		return
	}
	p.post(w, r, to, formTarget(to.Location))
}

// post has the browser post a form; targets are the sources of where it may lead.
func (p *Pages) post(w http.ResponseWriter, r *http.Request, to Return, targets string) {
	say := p.views.words(r, "")
	data := view{words: say, Title: say.Say("return.title"), Action: template.URL(to.Location), Script: template.JS(submitReturn), Destination: say.destination(to.Location)}
	for _, name := range slices.Sorted(maps.Keys(to.Fields)) {
		data.Hidden = append(data.Hidden, hidden{name, to.Fields.Get(name)})
	}
	policy := p.views.sources + "; script-src " + submitSource + "; form-action" + targets
	if err := p.views.write(w, http.StatusOK, "return", data, policy); err != nil {
		p.broken(w, r, err)
	}
}
