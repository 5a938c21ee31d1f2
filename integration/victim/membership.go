package victim

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// membership writes to standard error who this process is in its group, whenever that changes.
// Tests read it: the protocol tells no other process the generation.
type membership struct {
	mu    sync.Mutex
	ended map[*kgo.Client]chan struct{}
}

var (
	_ kgo.HookNewClient    = (*membership)(nil)
	_ kgo.HookClientClosed = (*membership)(nil)
)

// OnNewClient begins to watch.
func (m *membership) OnNewClient(client *kgo.Client) {
	ended := make(chan struct{})
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended == nil {
		m.ended = make(map[*kgo.Client]chan struct{})
	}
	m.ended[client] = ended
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var last string
		for {
			id, generation := client.GroupMetadata()
			if now := fmt.Sprintf("member %s generation %d", id, generation); now != last && generation > 0 {
				last = now
				fmt.Fprintln(os.Stderr, now)
			}
			select {
			case <-tick.C:
			case <-ended:
				return
			}
		}
	}()
}

// OnClientClosed ends the watch.
func (m *membership) OnClientClosed(client *kgo.Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.ended[client])
}
