// Package ledger writes what an inbox knows of a message beside its effect: the record that its
// handler was started, the claim on an effect that no database rolls back, and the audit. It also
// says for how long marks are wanted. A message is an Identity here. Package inbox decides with it,
// and package inboxloop looks things up in it.
package ledger
