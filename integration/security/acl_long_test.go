//go:build long

package security

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/outbox-relay/relay/integration/kit"
)

// Kafka's own tool understands the commands that relay acl prints, run by an administrator over TLS
// and SCRAM.
func TestKafkasToolTakesThePrintedCommands(t *testing.T) {
	t.Parallel()
	kafka := secured(t)
	settings, name, _ := kafka.deployment(t, kit.Database(t))
	printed, _ := printedAccess(t, settings)
	adminFile := filepath.Join(t.TempDir(), "admin.properties")
	rewrite(t, adminFile, fmt.Sprintf("security.protocol=SASL_SSL\nssl.truststore.type=PEM\nssl.truststore.location=%s\n"+
		"sasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required "+
		"username=\"%s\" password=\"%s\";\n", kafka.caFile, operatorUser, operatorPassword))
	t.Cleanup(func() { kafka.forbid(t, printed...) })
	for _, call := range printedCalls(t, settings) {
		for i, word := range call {
			if word == "admin.properties" {
				call[i] = adminFile
			}
		}
		if _, err := kafka.Tool(t.Context(), "org.apache.kafka.tools.AclCommand", call...); err != nil {
			t.Fatal(err)
		}
	}
	kafka.awaitHeld(t, name, printed)
}
