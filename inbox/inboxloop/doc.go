// Package inboxloop is what a consumer loop needs of an inbox besides handling messages. Package
// inboxkafka is such a loop; services that use it, or that call inbox.Handle themselves, do not
// need this package.
//
// A loop calls, for each partition (or queue) that it works on:
//
//   - Incarnation before the first message, and Bind for the context of each call that decides one.
//     If Postgres forgets commits in a crash, these calls return ErrForgotten, and nothing is
//     decided on top of what is gone.
//   - Open before the first message. If it reports a crash, a message that the process before was
//     handling may have ended it: Started tells how often each message was begun, and Start records
//     a beginning.
//   - Claim, before the first message and now and then, so that marks are kept for as long as their
//     messages may come again.
//   - Seen to skip messages of a replay, many at a time.
//   - Flush before it commits an offset, so that the offset never speaks for an effect that a crash
//     could still take away.
//   - Close when it gives the partition back.
//
// Beside that it asks Requested for parked keys whose retry somebody has asked for, calls Retry (or
// RetryAtMostOnce) until the queue of the key is empty, and RetryFailed if a message fails again.
package inboxloop
