package tables

import (
	"crypto/sha256"
	"strings"

	"github.com/google/uuid"
)

// MarkID returns the identity of a message id as it is in the tables, as the SQL function
// inbox_key does: a UUIDv7 itself; any other text hashed (SHA-256) into a UUID of version 8 (RFC
// 9562) whose first bit is set, so that it is in no range of time. A UUID of another version is
// the same in upper and lower case.
func MarkID(id string) uuid.UUID {
	if canonical(id) {
		if parsed, err := uuid.Parse(id); err == nil {
			if parsed.Version() == 7 && parsed.Variant() == uuid.RFC4122 {
				return parsed
			}
			id = strings.ToLower(id)
		}
	}
	digest := sha256.Sum256([]byte(id))
	key := uuid.UUID(digest[:16])
	key[0] |= 0x80
	key[6] = key[6]&0x0f | 0x80
	key[8] = key[8]&0x3f | 0x80
	return key
}

// canonical tells the form with four hyphens from the others that uuid.Parse takes.
func canonical(id string) bool {
	return len(id) == 36 && id[8] == '-' && id[13] == '-' && id[18] == '-' && id[23] == '-'
}
