//go:build !unix

package cache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"
)

// ours knows no owners here: the folder of a user's cache is the user's.
func ours(fs.FileInfo) bool { return true }

// lock takes file by creating it. A holder that is killed leaves the file behind, and it must then
// be removed by hand.
func lock(ctx context.Context, file string) (unlock func(), err error) {
	for {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL, 0o644)
		if err == nil {
			return func() { _, _ = f.Close(), os.Remove(file) }, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}
