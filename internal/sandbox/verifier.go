package sandbox

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// verifier returns what Postgres stores of a password (RFC 5803), with a single iteration of the
// hash in place of 4,096. Postgres takes such a text for the stored form and keeps it as it is.
// Many iterations slow down somebody who guesses, and a random password of 128 bits cannot be
// guessed. But the server computes them for each new session: it was a sixth of the processor time
// of the tests.
func verifier(password string) string {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	salted := keyed([]byte(password), append(salt[:len(salt):len(salt)], 0, 0, 0, 1))
	stored := sha256.Sum256(keyed(salted, []byte("Client Key")))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$1:%s$%s:%s", encode(salt), encode(stored[:]), encode(keyed(salted, []byte("Server Key"))))
}

func keyed(key, message []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(message)
	return mac.Sum(nil)
}
