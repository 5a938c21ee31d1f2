package kafkaauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/secretfile"
)

// The names of the settings, for errors.
const (
	settingTLS         = "kafka.tls.enabled"
	settingCA          = "kafka.tls.ca-file"
	settingCertificate = "kafka.tls.certificate-file"
	settingKey         = "kafka.tls.key-file"
	settingServerName  = "kafka.tls.server-name"
)

// check reports the faults of the settings and of their files.
func (t TLS) check(r *report, now time.Time) {
	if !t.Enabled {
		for _, given := range []struct{ setting, value string }{
			{settingCA, t.CAFile}, {settingCertificate, t.CertificateFile}, {settingKey, t.KeyFile}, {settingServerName, t.ServerName},
		} {
			if given.value != "" {
				r.fault(given.setting, hint.New("given while "+settingTLS+" is false",
					"--kafka-tls-enabled, or leave "+given.setting+" out"))
			}
		}
		return
	}
	if t.CAFile != "" {
		if text, ok := r.file(settingCA, t.CAFile); ok {
			authorities, err := parseCertificates(t.CAFile, text)
			if err != nil {
				r.fault(settingCA, err)
			}
			r.warnExpired(settingCA, authorities, now)
		}
	}
	t.checkOwn(r, now)
}

// checkOwn reports the faults of the relay's own certificate and key.
func (t TLS) checkOwn(r *report, now time.Time) {
	switch {
	case t.CertificateFile == "" && t.KeyFile == "":
		return
	case t.CertificateFile == "":
		r.fault(settingKey, hint.New("given without "+settingCertificate, "--kafka-tls-certificate-file FILE with the certificate of that key"))
		return
	case t.KeyFile == "":
		r.fault(settingCertificate, hint.New("given without "+settingKey, "--kafka-tls-key-file FILE with the key of that certificate"))
		return
	}
	certificateText, ok := r.file(settingCertificate, t.CertificateFile)
	keyText, ok2 := r.file(settingKey, t.KeyFile)
	var chain []*x509.Certificate
	if ok {
		var err error
		if chain, err = parseCertificates(t.CertificateFile, certificateText); err != nil {
			r.fault(settingCertificate, err)
			ok = false
		}
	}
	if ok2 {
		if err := checkKey(t.KeyFile, keyText); err != nil {
			r.fault(settingKey, err)
			ok2 = false
		}
	}
	if !ok || !ok2 {
		return
	}
	if _, err := tls.X509KeyPair(certificateText, keyText); err != nil {
		r.fault(settingKey, hint.New(fmt.Sprintf("%s is not the key of the certificate in %s", t.KeyFile, t.CertificateFile),
			"give the two files that were made together; in the certificate's file the relay's own certificate comes first"))
		return
	}
	r.warnExpired(settingCertificate, chain, now)
}

// warnExpired warns of certificates that do not hold at this moment. They may be replaced while the
// relay runs.
func (r *report) warnExpired(setting string, certificates []*x509.Certificate, now time.Time) {
	for _, c := range certificates {
		switch {
		case now.After(c.NotAfter):
			r.warn("%s: the certificate of %q expired on %s; put a new one into the file", setting, c.Subject, c.NotAfter.Format(time.RFC3339))
		case now.Before(c.NotBefore):
			r.warn("%s: the certificate of %q holds only from %s on; check the clock", setting, c.Subject, c.NotBefore.Format(time.RFC3339))
		}
	}
}

// parseCertificates returns the certificates of a PEM file, at least one.
func parseCertificates(path string, text []byte) ([]*x509.Certificate, error) {
	const try = "it must begin with -----BEGIN CERTIFICATE-----; openssl x509 -inform der -in FILE turns DER into PEM"
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue // a key in the same file does not matter
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, hint.New(fmt.Sprintf("%s: certificate %d cannot be read: %v", path, len(all)+1, err), try)
		}
		all = append(all, certificate)
	}
	if len(all) == 0 {
		return nil, hint.New(path+" holds no certificate in PEM", try)
	}
	return all, nil
}

// checkKey reports whether the file holds a private key that can be read without a password.
func checkKey(path string, text []byte) error {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return hint.New(path+" holds a key that is locked with a password",
				"openssl pkey -in FILE -out NEWFILE unlocks it; let only the relay's user read the new file")
		case block.Type == "PRIVATE KEY" || strings.HasSuffix(block.Type, " PRIVATE KEY"):
			return nil
		}
	}
	return hint.New(path+" holds no private key in PEM", "it must begin with -----BEGIN PRIVATE KEY-----")
}

// config reads the files and returns what the next connection uses.
func (t TLS) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		text, err := secretfile.Bytes(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", settingCA, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: %s holds no certificate in PEM", settingCA, t.CAFile)
		}
	}
	if t.CertificateFile != "" {
		certificateText, err := secretfile.Bytes(t.CertificateFile)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", settingCertificate, err)
		}
		keyText, err := secretfile.Bytes(t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", settingKey, err)
		}
		pair, err := tls.X509KeyPair(certificateText, keyText)
		if err != nil {
			// Also what is seen between the replacement of one file and that of the other: the next
			// try reads both.
			return nil, fmt.Errorf("%s: %s and %s do not belong together: %w", settingKey, t.CertificateFile, t.KeyFile, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// dialTimeout bounds the making of a connection, the handshake included.
const dialTimeout = 10 * time.Second

// dial opens a connection to a broker with what the files hold at this moment.
func (t TLS) dial(ctx context.Context, network, address string) (net.Conn, error) {
	config, err := t.config()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	plain, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if config.ServerName == "" {
		if config.ServerName, _, err = net.SplitHostPort(address); err != nil {
			return nil, errors.Join(fmt.Errorf("dial %s: %w", address, err), plain.Close())
		}
	}
	conn := tls.Client(plain, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = plain.Close() // the handshake's error is the one that tells something
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("the broker closed the connection: %w", err)
		}
		return nil, fmt.Errorf("TLS handshake with %s: %w", address, err)
	}
	return conn, nil
}
