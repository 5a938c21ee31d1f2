package bench

import (
	"io"
	"sync"
	"time"
)

// plainEvery is the time between two lines of progress if they cannot be redrawn.
const plainEvery = 5 * time.Second

// Screen is a View that writes for a person: a line that is redrawn on a terminal, and lines one
// below the other elsewhere.
type Screen struct {
	to       io.Writer
	terminal bool
	failed   func(error)

	mu    sync.Mutex
	drawn bool // the cursor stands behind a line of progress
	last  time.Time
}

// NewScreen returns a Screen that writes to to. If that fails, failed is called, each time.
func NewScreen(to io.Writer, terminal bool, failed func(error)) *Screen {
	return &Screen{to: to, terminal: terminal, failed: failed}
}

const (
	lineStart = "\r"
	clearLine = "\x1b[K"
	// redrawn is the least time between two redraws.
	redrawn = 100 * time.Millisecond
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
func (s *Screen) Progress(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	every := plainEvery
	if s.terminal {
		every = redrawn
	}
	if time.Since(s.last) < every {
		return
	}
	s.last = time.Now()
	if s.terminal {
		s.write(lineStart + line + clearLine)
		s.drawn = true
		return
	}
	s.write(line + "\n")
}

// Close ends the line of progress.
func (s *Screen) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drawn {
		s.write(lineStart + clearLine)
		s.drawn = false
	}
}

func (s *Screen) write(text string) {
	if _, err := io.WriteString(s.to, text); err != nil {
		s.failed(err)
	}
}
