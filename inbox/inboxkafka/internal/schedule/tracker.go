package schedule

// tracker knows of one partition which records are decided, and so how far the group's offset may
// go: to the first record that is not, and never past it. Records are entered in the order in which
// the client returns them; each gets a place, which says when it is done.
type tracker struct {
	entries []entry // of the places first, first+1, ...
	first   int64
	next    Position // behind the last record that left entries, where known
	known   bool
}

// Position is an offset with the epoch of the leader that wrote the record before it, as a commit
// carries both.
type Position struct {
	Offset int64
	Epoch  int32
}

type entry struct {
	offset, last int64 // of a record both are the same; of a batch that was not read, its first offset and its last one
	epoch        int32
	done         bool
}

// add enters a record and returns its place.
func (t *tracker) add(offset int64, epoch int32) (place int64) {
	return t.addRange(offset, offset, epoch)
}

// addRange enters a batch that was not read, from its first offset to its last one, and returns its
// place.
func (t *tracker) addRange(offset, last int64, epoch int32) (place int64) {
	t.entries = append(t.entries, entry{offset: offset, last: last, epoch: epoch})
	return t.first + int64(len(t.entries)) - 1
}

// done says that the record at a place is decided. A second time changes nothing.
func (t *tracker) done(place int64) {
	i := place - t.first
	if i < 0 || i >= int64(len(t.entries)) {
		return
	}
	t.entries[i].done = true
	var passed int
	for passed < len(t.entries) && t.entries[passed].done {
		e := t.entries[passed]
		t.next, t.known = Position{e.last + 1, e.epoch}, true
		passed++
	}
	t.entries = t.entries[passed:]
	t.first += int64(passed)
	if len(t.entries) == 0 {
		t.entries = nil // lets go of the memory of what passed
	}
}

// watermark is the position to commit; known is false until a first record was done. Offsets that
// the topic has no record for (markers of transactions, records of aborted ones) are passed once
// the record after them is here.
func (t *tracker) watermark() (p Position, known bool) {
	if !t.known {
		return Position{}, false
	}
	if len(t.entries) > 0 {
		return Position{t.entries[0].offset, t.next.Epoch}, true
	}
	return t.next, true
}

// window is how many records lie between the watermark and the last one, done or not.
func (t *tracker) window() int { return len(t.entries) }
