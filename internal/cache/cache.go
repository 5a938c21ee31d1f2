package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// lockPoll is the pause between two tries to get the lock that another process holds while it
// fetches.
const lockPoll = 50 * time.Millisecond

// Root is the folder under which entries lie: "outbox-relay" in the user's cache folder. Root the
// user starts some programs as another, unprivileged user, who must be able to read them: where
// root's own cache folder is closed to others it is /var/cache/outbox-relay. The folder need not
// exist.
func Root() (string, error) {
	dir, err := os.UserCacheDir()
	if os.Geteuid() == 0 && (err != nil || !OpenToAll(dir)) {
		dir, err = "/var/cache", nil
	}
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w; set HOME or XDG_CACHE_HOME to a folder you may write to", err)
	}
	return filepath.Join(dir, "outbox-relay"), nil
}

// OpenToAll reports whether every user may enter dir, or the nearest folder above it that exists.
func OpenToAll(dir string) bool {
	for {
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil || info.Mode().Perm()&0o001 == 0:
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

// Folder returns the folder of the entry name. If it is absent, fill is called once, by one
// process at a time, with a new folder to fill; if fill fails or ctx ends, nothing remains.
// Every user may read what is in the folder.
func Folder(ctx context.Context, name string, fill func(ctx context.Context, dir string) error) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	return folder(ctx, root, name, fill)
}

func folder(ctx context.Context, root, name string, fill func(ctx context.Context, dir string) error) (string, error) {
	dir := filepath.Join(root, name)
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	if err := trusted(root); err != nil {
		return "", err
	}
	if exists(dir) {
		return dir, trusted(dir)
	}
	unlock, err := lock(ctx, dir+".lock")
	if err != nil {
		return "", fmt.Errorf("lock cache entry %s: %w", name, err)
	}
	defer unlock()
	if exists(dir) { // somebody else filled it while we waited
		return dir, trusted(dir)
	}
	partial := dir + ".partial"
	if err := os.RemoveAll(partial); err != nil { // left by a process that was killed
		return "", fmt.Errorf("clear cache entry %s: %w", name, err)
	}
	if err := os.Mkdir(partial, 0o755); err != nil {
		return "", fmt.Errorf("make cache entry %s: %w", name, err)
	}
	err = fill(ctx, partial)
	if err == nil {
		err = openUp(partial)
	}
	if err == nil {
		err = os.Rename(partial, dir)
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("fill cache entry %s: %w", name, err), os.RemoveAll(partial))
	}
	return dir, nil
}

func exists(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}

// trusted refuses a folder that somebody else than this user and root has made, or may change: what
// is in it is run as a program.
func trusted(dir string) error {
	// Whose link it is, and whose folder the link leads to.
	for _, look := range []func(string) (fs.FileInfo, error){os.Lstat, os.Stat} {
		info, err := look(dir)
		if err != nil {
			return fmt.Errorf("look at cache folder: %w", err)
		}
		link := info.Mode()&fs.ModeSymlink != 0
		if !ours(info) || !link && info.Mode().Perm()&0o022 != 0 {
			return fmt.Errorf("cache folder %s belongs to somebody else, or others may write to it, and what is in it would be run: "+
				"remove it, or set XDG_CACHE_HOME to a folder of your own", dir)
		}
	}
	return nil
}

// openUp lets every user read what the owner may read, whatever the umask was.
func openUp(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if entry.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}
