package relay

import (
	"fmt"
	"math"

	"github.com/outbox-relay/relay/internal/checkpoint"
)

// unknownBatches is how far a recovery stays away from the number of a checkpoint that it cannot
// read: farther than any lane comes, so that the number is not used again.
const unknownBatches = 1_000_000_000_000

// lastSeq is a number that neither log is beyond.
func (f *Findings) lastSeq() int64 {
	seq := max(f.state.Seq, f.state.Parked) // what later batches have parked would be undone
	if f.last != nil {
		seq = max(seq, f.last.Seq)
	}
	if f.unreadable == nil {
		return seq
	}
	if f.unreadable.Seq < math.MaxInt64/2 { // it is only a claim, and must leave room
		seq = max(seq, f.unreadable.Seq)
	}
	return seq + unknownBatches
}

// checkpoint is the last one, or what stands for it.
func (f *Findings) checkpoint() *checkpoint.Record {
	if f.unreadable != nil {
		return f.unreadable.Placeholder()
	}
	return f.last
}

// warnOfNewer adds a caution to each way on: a checkpoint of a newer relay is not to be replaced
// without a word.
func (f *Findings) warnOfNewer() {
	if f.unreadable == nil || !f.unreadable.Newer() {
		return
	}
	caution := fmt.Sprintf("a newer relay wrote the last checkpoint (version %d, and this relay knows only version %d), "+
		"and this way replaces it: right only if no newer relay is to run the lane; otherwise upgrade this relay, which needs no choice",
		f.unreadable.Version, checkpoint.Version)
	for n := range f.Choices {
		if f.Choices[n].Caution != "" {
			f.Choices[n].Caution += "; "
		}
		f.Choices[n].Caution += caution
	}
}
