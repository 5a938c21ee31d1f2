package demo

import (
	"fmt"
	"io"
	"time"

	"github.com/outbox-relay/relay/internal/harness/screen"
)

// plainEvery is the time between two lines of progress if they cannot be redrawn.
const plainEvery = time.Second

// Screen is a View that writes for a person.
type Screen struct {
	*screen.Screen
	started time.Time
}

// NewScreen returns a Screen that writes to to. If that fails, failed is called, each time.
func NewScreen(to io.Writer, terminal bool, failed func(error)) Screen {
	every := plainEvery
	if terminal {
		every = 0
	}
	return Screen{screen.New(to, terminal, every, failed), time.Now()}
}

// Progress draws the line of progress again.
func (s Screen) Progress(p Progress) { s.Screen.Progress(s.line(p)) }

// Close ends the line of progress, which stays.
func (s Screen) Close() { s.Leave() }

// line is short enough for a terminal of 80 columns up to a million messages: a line that wraps
// cannot be redrawn.
func (s Screen) line(p Progress) string {
	text := fmt.Sprintf("%4.1fs %s/%s written, %s read, %s booked, %d+%d kills",
		time.Since(s.started).Seconds(), grouped(p.Written), grouped(p.Messages),
		grouped(p.Published), grouped(p.Booked), p.Kills, p.BankKills)
	if p.Faults > 0 {
		text += fmt.Sprintf(", %d FAULTS", p.Faults)
	}
	return text
}
