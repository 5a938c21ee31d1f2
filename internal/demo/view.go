package demo

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// plainEvery is the time between two lines of progress if they cannot be redrawn.
const plainEvery = time.Second

// Screen is a View that writes for a person: a line that is redrawn on a terminal, and lines one
// below the other elsewhere.
type Screen struct {
	to       io.Writer
	terminal bool
	failed   func(error)

	mu      sync.Mutex
	drawn   bool // the cursor stands behind a line of progress
	last    time.Time
	started time.Time
}

// NewScreen returns a Screen that writes to to. If that fails, failed is called, each time.
func NewScreen(to io.Writer, terminal bool, failed func(error)) *Screen {
	return &Screen{to: to, terminal: terminal, failed: failed, started: time.Now()}
}

const (
	lineStart = "\r"
	clearLine = "\x1b[K"
)

// Event writes a line above the line of progress.
func (s *Screen) Event(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drawn {
		line = lineStart + clearLine + line
		s.drawn = false
	}
	s.write(line + "\n")
}

// Progress draws the line of progress again, or if that cannot be, writes one now and then.
func (s *Screen) Progress(p Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal {
		s.write(lineStart + s.line(p) + clearLine)
		s.drawn = true
		return
	}
	if time.Since(s.last) < plainEvery {
		return
	}
	s.last = time.Now()
	s.write(s.line(p) + "\n")
}

// Close ends the line of progress.
func (s *Screen) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drawn {
		s.write("\n")
		s.drawn = false
	}
}

// line is short enough for a terminal of 80 columns up to a million messages: a line that wraps
// cannot be redrawn.
func (s *Screen) line(p Progress) string {
	text := fmt.Sprintf("%4.1fs %s/%s written, %s read, %s booked, %d+%d kills",
		time.Since(s.started).Seconds(), grouped(p.Written), grouped(p.Messages),
		grouped(p.Published), grouped(p.Booked), p.Kills, p.BankKills)
	if p.Faults > 0 {
		text += fmt.Sprintf(", %d FAULTS", p.Faults)
	}
	return text
}

func (s *Screen) write(text string) {
	if _, err := io.WriteString(s.to, text); err != nil {
		s.failed(err)
	}
}
