package victim

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Point is a step at which a process can be made to end.
type Point string

// The points, in the order in which a message passes them.
const (
	BeforeAccept Point = "before-accept" // everything up to the statement of the mark was sent
	AfterAccept  Point = "after-accept"  // its answer has come
	BeforeEffect Point = "before-effect" // the handler begins
	InsideEffect Point = "inside-effect" // half of its effect is written
	AfterEffect  Point = "after-effect"  // it is about to return
	BeforeCommit Point = "before-commit" // everything but COMMIT was sent
	AfterCommit  Point = "after-commit"  // the answer to COMMIT has come, and was not read
	BeforeOffset Point = "before-offset" // a commit of offsets is about to be sent
	SentOffset   Point = "sent-offset"   // it was sent, and is not answered
	AfterOffset  Point = "after-offset"  // it is answered
)

// Points are all of them.
func Points() []Point {
	return []Point{BeforeAccept, AfterAccept, BeforeEffect, InsideEffect, AfterEffect, BeforeCommit, AfterCommit,
		BeforeOffset, SentOffset, AfterOffset}
}

// What happens at a point.
const (
	Kill   = "kill"   // SIGKILL to the process itself; the default
	Freeze = "freeze" // SIGSTOP, until somebody wakes it
	Cut    = "cut"    // the connection to Postgres is closed, at this and every N-th time; not at points of the handler and of offsets
)

// failpoint counts how often a point is reached. A nil one is never reached.
type failpoint struct {
	point  Point
	at     int
	action string

	mu    sync.Mutex
	count int
}

// parseFailpoint reads POINT:N or POINT:N:ACTION; an empty text is no failpoint.
func parseFailpoint(text string) (*failpoint, error) {
	if text == "" {
		return nil, nil
	}
	parts := strings.Split(text, ":")
	if len(parts) == 2 {
		parts = append(parts, Kill)
	}
	if len(parts) != 3 || !slices.Contains(Points(), Point(parts[0])) || !slices.Contains([]string{Kill, Freeze, Cut}, parts[2]) {
		return nil, fmt.Errorf("failpoint %q: want POINT:N:ACTION", text)
	}
	at, err := strconv.Atoi(parts[1])
	if err != nil || at < 1 {
		return nil, fmt.Errorf("failpoint %q: want a number from 1", text)
	}
	return &failpoint{point: Point(parts[0]), at: at, action: parts[2]}, nil
}

// due counts that a point is reached, and reports whether it is the time to act.
func (f *failpoint) due(point Point) bool {
	if f == nil || f.point != point {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	if f.action == Cut {
		return f.count%f.at == 0
	}
	return f.count == f.at
}

// act ends or freezes the process, or reports that the connection is to be cut.
func (f *failpoint) act() (cut bool) {
	fmt.Fprintf(os.Stderr, "failpoint %s:%d:%s\n", f.point, f.at, f.action)
	switch f.action {
	case Kill:
		killMyself()
	case Freeze:
		signalMyself(syscall.SIGSTOP)
	}
	return f.action == Cut
}

// pass acts if the point is due and no connection is at hand.
func (f *failpoint) pass(point Point) {
	if f.due(point) {
		f.act()
	}
}

func killMyself() {
	signalMyself(syscall.SIGKILL)
	select {} // the signal comes from outside of this goroutine
}

func signalMyself(signal syscall.Signal) {
	if err := syscall.Kill(os.Getpid(), signal); err != nil {
		panic(err) // a process may always signal itself
	}
}
