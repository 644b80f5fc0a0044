package issuer

import (
	"net/http"

	"gatehouse.dev/gatehouse/issuer/login"
)

// page gives a person's page its parameters, parsed as strictly as a machine's.
func (s *server) page(handle func(http.ResponseWriter, *http.Request, login.Form)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f, err := pageForm(r)
		if err != nil {
			s.badRequest(w, r, err)
			return
		}
		handle(w, r, f.get)
	}
}
