// Package inbox is the consumer's side: it will record the msg_id of each processed message in the same database
// transaction as the business write, so that each message has its effect exactly once.
//
// It is not built yet. Until then a consumer does the same by hand: INSERT the msg_id header into a table of its own with
// ON CONFLICT DO NOTHING, in the transaction of the effect, and skip the effect where no row was inserted.
package inbox
