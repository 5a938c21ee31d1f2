package inbox

import "time"

// SetIdle shortens how long a session may say nothing in a transaction.
func (i *Of[T]) SetIdle(d time.Duration) { i.idle = d }
