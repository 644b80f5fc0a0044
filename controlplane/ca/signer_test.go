package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// signAsHelper answers like an external signer, with a fault; it returns the
// exit code.
func signAsHelper(dir, fault string) int {
	switch fault {
	case "nothing":
		return 0
	case "an error":
		fmt.Fprintln(os.Stderr, "the disk is full")
		return 1
	case "a flood":
		fmt.Print(strings.Repeat("x", 1<<20))
		return 0
	case "another root":
		dir += "-other"
	}
	a, err := Open(dir, time.Now)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	block, _ := pem.Decode(must(io.ReadAll(os.Stdin)))
	request := must(x509.ParseCertificateRequest(block.Bytes))
	end := must(time.Parse(time.RFC3339, os.Getenv("GATEHOUSE_NOT_AFTER")))
	template := a.svid(must(ParseID(os.Getenv("GATEHOUSE_SPIFFE_ID"))), time.Until(end))
	spoil(template, request, fault)
	chain := must(a.current.Load().signer.Sign(context.Background(), template, request))
	os.Stdout.Write(encodeCertificates(chain))
	if fault == "a key too" {
		pem.Encode(os.Stdout, &pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})
	}
	return 0
}

func spoil(template *x509.Certificate, request *x509.CertificateRequest, fault string) {
	switch fault {
	case "another id":
		template.URIs[0].Path = "/service/profile"
	case "a second SAN":
		template.DNSNames = []string{"orders"}
	case "another key":
		request.PublicKey = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).Public()
	case "too long":
		template.NotAfter = template.NotAfter.Add(time.Minute)
	case "a CA":
		template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
	case "no client":
		template.ExtKeyUsage = template.ExtKeyUsage[:1]
	}
}
