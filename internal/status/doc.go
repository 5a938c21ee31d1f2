// Package status tells from the database alone how each lane stands: who runs it, how far it is, how much is behind.
//
// It needs no Kafka and no running relay. Rows behind are computed from the lane's progress the way the relay itself finds
// its rows: those that the lane's snapshot does not show, found through the index on xact_id, less those of the window
// that is being drained. Whether the owner lives is told by the advisory lock that it holds for as long as its session
// lasts. docs/status.md documents the JSON form of Lane; it is a contract.
package status
