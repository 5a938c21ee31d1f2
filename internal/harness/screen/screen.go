// Package screen shows a person how relay demo and relay bench go: lines for what happens, and a
// line of progress that is redrawn on a terminal.
package screen

import (
	"io"
	"sync"
	"time"
)

// Screen writes lines of events, and one of progress. It is safe for concurrent use.
type Screen struct {
	to       io.Writer
	terminal bool
	every    time.Duration
	failed   func(error)

	mu    sync.Mutex
	drawn bool // the cursor stands behind a line of progress
	last  time.Time
}

// New returns a Screen that writes to to. On a terminal the line of progress is redrawn; elsewhere
// one is written below the other. Between two of them lies every at least. If writing fails, failed
// is called, each time.
func New(to io.Writer, terminal bool, every time.Duration, failed func(error)) *Screen {
	return &Screen{to: to, terminal: terminal, every: every, failed: failed}
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
func (s *Screen) Progress(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.last) < s.every {
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

// Close removes the line of progress.
func (s *Screen) Close() { s.end(lineStart + clearLine) }

// Leave ends the line of progress and lets it stand.
func (s *Screen) Leave() { s.end("\n") }

func (s *Screen) end(how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drawn {
		s.write(how)
		s.drawn = false
	}
}

func (s *Screen) write(text string) {
	if _, err := io.WriteString(s.to, text); err != nil {
		s.failed(err)
	}
}
