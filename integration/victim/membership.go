package victim

import (
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// membership writes to standard error who this process is in its group, whenever that changes. Tests read it: the protocol
// tells nobody else the generation.
type membership struct {
	done chan struct{}
}

var (
	_ kgo.HookNewClient    = (*membership)(nil)
	_ kgo.HookClientClosed = (*membership)(nil)
)

// OnNewClient begins to watch.
func (m *membership) OnNewClient(client *kgo.Client) {
	m.done = make(chan struct{})
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var last string
		for {
			id, generation := client.GroupMetadata()
			if now := fmt.Sprintf("member %s generation %d", id, generation); now != last && id != "" {
				last = now
				fmt.Fprintln(os.Stderr, now)
			}
			select {
			case <-tick.C:
			case <-m.done:
				return
			}
		}
	}()
}

// OnClientClosed ends the watch.
func (m *membership) OnClientClosed(*kgo.Client) { close(m.done) }
