//go:build bench

package kit

// measured says that what is measured counts: servers run as they do elsewhere, not as they start
// soonest.
const measured = true
