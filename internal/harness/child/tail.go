package child

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync"
)

// tail keeps the last lines that a child wrote.
type tail struct {
	ready chan struct{} // closed once the text that is waited for was written
	done  chan struct{} // closed at the end of the output

	mu    sync.Mutex
	lines []string
}

const tailLines = 12

// follow reads lines until the other end is closed, which the death of the child does.
func follow(output io.ReadCloser, ready string) *tail {
	t := &tail{ready: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(t.done)
		lines := bufio.NewScanner(output)
		lines.Buffer(nil, 1<<20)
		awaited := ready != ""
		for lines.Scan() {
			if awaited && strings.Contains(lines.Text(), ready) {
				awaited = false
				close(t.ready)
			}
			t.add(lines.Text())
		}
		if err := lines.Err(); err != nil {
			t.add(fmt.Sprintf("(the rest of the log cannot be read: %v)", err))
		}
		_ = output.Close() // read only
	}()
	return t
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == tailLines {
		t.lines = t.lines[1:]
	}
	t.lines = append(t.lines, line)
}

// quote waits for the end of the output and returns its last lines, for an error.
func (t *tail) quote() string {
	if t == nil {
		return ""
	}
	<-t.done
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return "; it wrote no log"
	}
	return "; the end of its log:\n  " + strings.Join(t.lines, "\n  ")
}
