package issuer

import (
	"fmt"

	"gatehouse.dev/gatehouse/internal/conf"
)

// ValidateFiles reports the files that a start would refuse: that are not there,
// or hold something else. It is apart from Validate, for other parts of the same
// configuration may be on machines that have none of them.
func (c *Config) ValidateFiles() (vs conf.Violations) {
	report := func(key string, file conf.Path, err error, remedy string) {
		if err != nil {
			vs.Add(key, file, fmt.Sprintf("cannot be used (%v)", err), remedy)
		}
	}
	_, err := loadAuthorities(string(c.ClientAuthorities))
	report("client_authorities", c.ClientAuthorities, err, "name a file of PEM certificates, or leave it out")
	_, err = loadAuthorities(string(c.BackchannelLogout.CA))
	report("backchannel_logout.ca", c.BackchannelLogout.CA, err, "name a file of PEM certificates, or leave it out")
	for i, a := range c.AssertionIssuers {
		if a.JWKSFile != "" {
			_, err := a.keySet()
			report(fmt.Sprintf("assertion_issuers[%d].jwks_file", i), a.JWKSFile, err, "put that issuer's JWK Set there")
		}
	}
	return vs
}
