package testcert

import (
	"crypto/x509"
	"testing"
	"time"
)

func TestACertificateHoldsForItsHostsUnderItsAuthorityOnly(t *testing.T) {
	authority, err := New("one")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := New("another")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Sign(Leaf{Name: "relay", Hosts: []string{"kafka.internal", "127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	verify := func(by *Authority, host string, at time.Time) error {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(by.PEM)
		_, err := certificate.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: at})
		return err
	}
	now := time.Now()
	for _, host := range []string{"kafka.internal", "127.0.0.1"} {
		if err := verify(authority, host, now); err != nil {
			t.Error(err)
		}
	}
	if verify(stranger, "127.0.0.1", now) == nil || verify(authority, "other.internal", now) == nil ||
		verify(authority, "127.0.0.1", now.Add(2*time.Hour)) == nil {
		t.Error("the certificate is valid although it should not be")
	}
}
