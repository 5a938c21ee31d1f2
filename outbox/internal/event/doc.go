// Package event holds what outbox and outbox/outboxsql share: the rules for messages, the
// identities, and the columns that go to the database. It knows no driver.
package event
