package inbox

import "time"

// SetIdle shortens how long a session may say nothing in a transaction.
func (i *Inbox[TTx]) SetIdle(d time.Duration) { i.idle = d }
