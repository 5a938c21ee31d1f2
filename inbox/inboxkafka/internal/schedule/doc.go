// Package schedule decides which records a consumer holds, which of them are handled when, and how
// far the group's offset may go. It knows neither Kafka nor a database: package inboxkafka puts
// records in, takes jobs out and says what became of them.
//
//	fetch:   AwaitRoom → Admit                       (room.go, intake.go)
//	intake:  Arrivals → PassMarkers, Skip → Release  (intake.go)
//	workers: Take → Finish                           (schedule.go)
//	commits: Watermarks → Flushed → Committed        (assignment.go, tracker.go)
//
// What it promises, and its tests show for any order of events:
//
//   - Messages of one key are handled one after the other, in order. One that failed keeps its key
//     waiting, and no other key.
//   - A watermark never passes a record that is not done.
//   - A message that may be why a process ended is in flight alone.
//   - While something is unavailable one trial begins at a time (breaker.go).
//   - What is held stays below its bounds, and a partition that is stuck does not stop the others
//     (room.go).
package schedule
