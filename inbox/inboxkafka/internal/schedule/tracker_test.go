package schedule

import (
	"testing"

	"pgregory.net/rapid"
)

// The watermark is the first offset that is not done, or the one behind the last; whatever the
// order in which records are done, and whatever gaps the offsets have.
func TestWatermarkNeverPassesWhatIsNotDone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tr tracker
		type record struct {
			place, offset int64
			done          bool
		}
		var records []record
		next, before := int64(rapid.IntRange(0, 1000).Draw(t, "start")), int64(-1)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			if len(records) == 0 || rapid.Bool().Draw(t, "add") {
				next += int64(rapid.SampledFrom([]int{0, 0, 0, 1, 2, 50}).Draw(t, "gap"))
				records = append(records, record{place: tr.add(next, 7), offset: next})
				next++
			} else {
				n := rapid.IntRange(0, len(records)-1).Draw(t, "which")
				records[n].done = true
				tr.done(records[n].place)
			}
			want, any := int64(-1), false
			window := 0
			for n, r := range records {
				if !r.done {
					want, window = r.offset, len(records)-n
					break
				}
				any, want = true, r.offset+1
			}
			mark, known := tr.watermark()
			if known != any {
				t.Fatalf("known is %v, want %v", known, any)
			}
			if known && (mark.Offset != want || mark.Epoch != 7) {
				t.Fatalf("watermark %+v, want offset %d", mark, want)
			}
			if known && mark.Offset < before {
				t.Fatalf("the watermark went back from %d to %d", before, mark.Offset)
			}
			if known {
				before = mark.Offset
			}
			if tr.window() != window {
				t.Fatalf("window %d, want %d", tr.window(), window)
			}
		}
	})
}

// A log that was cut back is read again from further down; what is read again must be done again
// before it is passed.
func TestWatermarkFollowsALogThatWasCutBack(t *testing.T) {
	var tr tracker
	first, second := tr.add(10, 1), tr.add(11, 1)
	tr.done(first)
	tr.done(second)
	again := tr.add(5, 2)
	if mark, _ := tr.watermark(); mark.Offset != 5 {
		t.Fatalf("watermark %+v, want offset 5", mark)
	}
	tr.done(again)
	if mark, _ := tr.watermark(); mark != (Position{6, 2}) {
		t.Fatalf("watermark %+v, want offset 6 of epoch 2", mark)
	}
}
