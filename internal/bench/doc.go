// Package bench measures the relay on servers that a user names, beside what it is to be compared
// with, in one run and in turn, because machines differ and change from hour to hour.
//
// Run measures the relay as a child process of the same binary, so that its memory and its
// processor time are its own:
//
//   - the drain of a backlog, beside a raw transactional producer that is fed like records from
//     memory, once with one transactional id, as programs have it, and once with a ring of six
//     whose commits overlap as the relay's do;
//   - the same drain under each condition that was asked for: many published rows behind it, an
//     open transaction;
//   - the time from the commit of an insert to a read_committed consumer at steady rates, beside
//     that of a Kafka transaction of one record;
//   - what an idle relay costs.
//
// RunInsert measures what the outbox costs the business: one transaction without an event, with a
// plain row of the same size, and with an event.
//
// Nothing of the user's is touched. Tables are made in schemas of the bench's own by the embedded
// migrations; topics, the consumer group and the deployment have their own names; all of it is
// removed at the end, also after a failure or Ctrl-C.
package bench
